//! How far the replicas of a set are, in the words of RocketMQ's replication.

use super::shapes;

shapes! {
    /// Answer to GET_BROKER_HA_STATUS (907).
    #[derive(Default)]
    pub struct HaRuntimeInfo {
        /// What a follower says of itself.
        ha_client_runtime_info: HaClientRuntimeInfo,
        /// What the master says of each of the others.
        ha_connection_info: Vec<HaConnectionRuntimeInfo>,
        in_sync_slave_nums: i32,
        master: bool,
        /// Byte position behind the master's last entry.
        master_commit_log_max_offset: i64,
    }

    #[derive(Default)]
    pub struct HaConnectionRuntimeInfo {
        addr: String,
        /// Bytes behind the master.
        diff: i64,
        in_sync: bool,
        slave_ack_offset: i64,
        transfer_from_where: i64,
        transferred_byte_in_second: i64,
    }

    #[derive(Default)]
    pub struct HaClientRuntimeInfo {
        /// Milliseconds since 1970, as the other time.
        last_read_timestamp: i64,
        last_write_timestamp: i64,
        master_addr: String,
        master_flush_offset: i64,
        max_offset: i64,
        transferred_byte_in_second: i64,
    }
}
