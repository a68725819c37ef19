//! Bits of a message's `sysFlag`, and the other bit sets of the protocol.

pub const COMPRESSED: i32 = 0x1;
pub const MULTI_TAGS: i32 = 0x2;
pub const TRANSACTION_NOT_TYPE: i32 = 0x0;
pub const TRANSACTION_PREPARED: i32 = 0x4;
pub const TRANSACTION_COMMIT: i32 = 0x8;
pub const TRANSACTION_ROLLBACK: i32 = 0xC;
/// Both transaction bits.
pub const TRANSACTION_MASK: i32 = 0xC;
pub const BORN_HOST_V6: i32 = 0x10;
pub const STORE_HOST_V6: i32 = 0x20;
/// The consumer must unwrap an inner batch.
pub const NEED_UNWRAP: i32 = 0x40;
pub const INNER_BATCH: i32 = 0x80;
/// Compression type: 0 means ZLIB for records of old clients.
pub const COMPRESSION_MASK: i32 = 0x700;
pub const COMPRESSION_LZ4: i32 = 0x100;
pub const COMPRESSION_ZSTD: i32 = 0x200;
pub const COMPRESSION_ZLIB: i32 = 0x300;

/// The transaction bits alone.
pub fn transaction_type(sys_flag: i32) -> i32 {
    sys_flag & TRANSACTION_MASK
}

/// `sys_flag` with its transaction bits replaced.
pub fn with_transaction_type(sys_flag: i32, transaction: i32) -> i32 {
    sys_flag & !TRANSACTION_MASK | transaction & TRANSACTION_MASK
}

/// `sysFlag` of a pull request.
pub mod pull {
    pub const COMMIT_OFFSET: i32 = 0x1;
    /// Hold the request when nothing is found.
    pub const SUSPEND: i32 = 0x2;
    /// The request carries its subscription.
    pub const SUBSCRIPTION: i32 = 0x4;
    pub const CLASS_FILTER: i32 = 0x8;
    pub const LITE_PULL: i32 = 0x10;
}

/// `topicSysFlag` and `groupSysFlag`.
pub mod unit {
    pub const UNIT: i32 = 0x1;
    pub const UNIT_SUB: i32 = 0x2;
}
