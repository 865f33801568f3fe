//! Which addresses are not on the public internet.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks of IPv4 that are nobody's on the public internet.
const REFUSED_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),          // this host
    v4([10, 0, 0, 0], 8),         // private
    v4([100, 64, 0, 0], 10),      // behind a carrier's NAT
    v4([127, 0, 0, 0], 8),        // loopback
    v4([169, 254, 0, 0], 16),     // link-local, and clouds' metadata
    v4([172, 16, 0, 0], 12),      // private
    v4([192, 0, 0, 0], 24),       // protocols
    v4([192, 0, 2, 0], 24),       // documentation
    v4([192, 88, 99, 0], 24),     // relays of 6to4
    v4([192, 168, 0, 0], 16),     // private
    v4([198, 18, 0, 0], 15),      // benchmarks
    v4([198, 51, 100, 0], 24),    // documentation
    v4([203, 0, 113, 0], 24),     // documentation
    v4([224, 0, 0, 0], 4),        // multicast
    v4([240, 0, 0, 0], 4),        // reserved
    v4([255, 255, 255, 255], 32), // broadcast
];

/// What there is of IPv6 that is unicast and global; everything else is local or reserved.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// Networks within it that are nobody's on the public internet.
const REFUSED_V6: [Ipv6Net; 3] = [
    v6([0x2001, 0, 0], 23),     // protocols, Teredo among them
    v6([0x2001, 0xdb8, 0], 32), // documentation
    v6([0x3fff, 0, 0], 20),     // documentation
];

/// IPv6 addresses that have one of IPv4 within, with the segment where it begins: what is sent to
/// them may come out there.
const EMBEDDED: [(Ipv6Net, usize); 3] = [
    (v6([0, 0, 0], 96), 6),         // IPv4-compatible
    (v6([0x64, 0xff9b, 0], 96), 6), // NAT64
    (v6([0x2002, 0, 0], 16), 1),    // 6to4
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b, c]: [u16; 3], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// Tells whether an address is on the public internet, as far as anybody can tell by itself.
pub(super) fn is_public(address: IpAddr) -> bool {
    match embedded(address) {
        IpAddr::V4(address) => !REFUSED_V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !REFUSED_V6.iter().any(|net| net.contains(&address))
        }
    }
}

/// Returns the address of IPv4 that is within an address, else the address.
pub(super) fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(address) = address.to_canonical() else {
        return address.to_canonical();
    };
    let found = EMBEDDED.iter().find(|(net, _)| net.contains(&address));
    let Some((_, at)) = found else {
        return address.into();
    };
    let segments = address.segments();
    let [a, b] = segments[*at].to_be_bytes();
    let [c, d] = segments[at + 1].to_be_bytes();
    let within = Ipv4Addr::new(a, b, c, d);
    // `::` and `::1` are addresses of their own, and no more public for it.
    within.into()
}

/// Tells whether one of `nets` has the address, or the one within it.
pub(super) fn has(nets: &[IpNet], address: IpAddr) -> bool {
    let within = embedded(address);
    let all = [address, address.to_canonical(), within];
    nets.iter()
        .any(|net| all.iter().any(|address| net.contains(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        for (address, expected) in [
            ("1.1.1.1", true),
            ("93.184.216.34", true),
            ("172.32.0.1", true),
            ("100.128.0.1", true),
            ("2606:4700:4700::1111", true),
            ("::ffff:1.1.1.1", true),
            ("64:ff9b::101:101", true),
            ("2002:101:101::1", true),
            ("0.0.0.0", false),
            ("10.255.0.1", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.0.0.8", false),
            ("192.0.2.1", false),
            ("192.88.99.1", false),
            ("192.168.1.1", false),
            ("198.19.0.1", false),
            ("198.51.100.1", false),
            ("203.0.113.1", false),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::7f00:1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:a9fe:a9fe", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("64:ff9b:1::1", false),
            ("2002:7f00:1::1", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("3fff::1", false),
            ("100::1", false),
            ("5f00::1", false),
            ("fc00::1", false),
            ("fd12:3456::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
        }
    }
}
