//! Permission bits of topics and queues (`PermName`).

pub const INHERIT: i32 = 1;
pub const WRITE: i32 = 2;
pub const READ: i32 = 4;
pub const PRIORITY: i32 = 8;

pub fn is_readable(perm: i32) -> bool {
    perm & READ != 0
}

pub fn is_writable(perm: i32) -> bool {
    perm & WRITE != 0
}

pub fn is_inherited(perm: i32) -> bool {
    perm & INHERIT != 0
}

/// Whether a topic may be created with `perm`.
pub fn is_valid(perm: i32) -> bool {
    (0..PRIORITY).contains(&perm)
}
