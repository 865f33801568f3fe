/* Stands in for the system's randomness in the processes whose instructions are counted
   (LD_PRELOAD): hash tables get the same seeds each time, and so the same order. */

#include <string.h>
#include <sys/types.h>

ssize_t getrandom(void *buffer, size_t length, unsigned flags) {
    (void)flags;
    memset(buffer, 0x5a, length);
    return (ssize_t)length;
}
