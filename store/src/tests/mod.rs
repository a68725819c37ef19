//! The store as a whole against a model: random operations with crashes at every point, power loss, bit rot, full disks.

mod crash;
mod disk;
mod poison;
mod reference;
mod rot;
mod world;
