//! The history checker against histories that are right, and against what is wrong with them once
//! an event is dropped, doubled, swapped or changed.

mod mutations;
mod rules;
mod world;
