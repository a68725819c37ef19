//! Transactional messages.

use crate::bytestr::ByteStr;
use crate::headers;

headers! {
    /// END_TRANSACTION (37), oneway.
    pub struct EndTransactionRequestHeader {
        topic: Option<ByteStr> = "topic",
        producer_group: ByteStr = "producerGroup" required,
        /// Queue offset of the half message.
        tran_state_table_offset: i64 = "tranStateTableOffset" required,
        /// Physical offset of the half message.
        commit_log_offset: i64 = "commitLogOffset" required,
        /// 0 unknown, 8 commit, 12 rollback.
        commit_or_rollback: i32 = "commitOrRollback" required,
        from_transaction_check: bool = "fromTransactionCheck",
        msg_id: ByteStr = "msgId" required,
        transaction_id: Option<ByteStr> = "transactionId",
    }

    /// CHECK_TRANSACTION_STATE (39), from the broker, oneway.
    pub struct CheckTransactionStateRequestHeader {
        topic: Option<String> = "topic",
        tran_state_table_offset: i64 = "tranStateTableOffset" required,
        commit_log_offset: i64 = "commitLogOffset" required,
        msg_id: Option<String> = "msgId",
        transaction_id: Option<String> = "transactionId",
        offset_msg_id: Option<String> = "offsetMsgId",
    }
}
