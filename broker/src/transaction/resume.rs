//! Reviving a transaction: RESUME_CHECK_HALF_MESSAGE (323).
//!
//! What was given up lies in TRANS_CHECK_MAX_TIME_TOPIC. An administrator who knows better names it by its offset id; it becomes a half
//! message again and its producers are asked from the beginning. Where RocketMQ takes any message for that, and makes a second half
//! message of one that still pends, here the one that pends is asked about from the beginning.

use std::sync::Arc;

use bytes::Bytes;
use raftmq_raft::{AckLevel, Proposal, ProposeError};
use raftmq_remoting::codes::response;
use raftmq_remoting::message::properties as prop;
use raftmq_remoting::message::{NewMessage, StoredRecord, parse_offset_msg_id};
use raftmq_store::{Command, PendingTransaction};

use super::{Claim, copy, find, target};
use crate::broker::{Broker, now_ms};
use crate::call::Call;
use crate::names;
use crate::offset::with_disk;
use crate::stored_properties;

/// What an entry does for a transaction.
enum Revival {
    /// It is given up no more.
    Half(Box<NewMessage>),
    /// It pends: it is asked about from the beginning.
    Again(PendingTransaction),
}

/// RESUME_CHECK_HALF_MESSAGE.
pub fn resume(broker: &Arc<Broker>, call: Call) {
    let id = call.cmd.ext.get("msgId").unwrap_or_default();
    let Ok((_, position)) = parse_offset_msg_id(id) else {
        let remark = format!("msgId {id:?} is no offset message id");
        return call.error(response::SYSTEM_ERROR, remark);
    };
    with_disk(broker, call, move |broker, call| {
        put_back(broker, call, position);
    });
}

fn put_back(broker: &Arc<Broker>, call: Call, position: i64) {
    let role = broker.replica.role();
    if !role.serving {
        return call.refuse("not the master any more");
    }
    let Some(mut claim) = Claim::take(broker, role.term, position) else {
        let remark = "the transaction is being ended, checked or put back";
        return call.error(response::SYSTEM_ERROR, remark);
    };
    let (messages, commands) = match revival(broker, position) {
        Ok(Revival::Half(message)) => (vec![*message], Vec::new()),
        Ok(Revival::Again(pending)) => {
            let pending = vec![pending];
            (Vec::new(), vec![Command::TransactionChecked { pending }])
        }
        Err(why) => return call.error(response::SYSTEM_ERROR, why),
    };
    let proposal = Proposal {
        messages,
        commands,
        ack: Some(AckLevel::Majority),
        only_term: Some(role.term),
        deadline: call.deadline,
    };
    let shared = broker.clone();
    broker.replica.propose(proposal, move |result| {
        claim.stays = matches!(result, Err(ProposeError::Unknown));
        drop(claim);
        match result {
            Ok(_) => {
                tracing::info!(position, "a transaction is checked from the beginning");
                call.ok()
            }
            Err(e) => shared.failed(call, e),
        }
    });
}

fn revival(broker: &Broker, position: i64) -> Result<Revival, String> {
    let unreadable = |e: &dyn std::fmt::Display| format!("the message cannot be read: {e}");
    let read = broker.replica.read_record_at(position);
    let bytes = read.map_err(|e| unreadable(&e))?;
    let record = StoredRecord::parse(&bytes).map_err(|e| unreadable(&e))?;
    let id = record.property(prop::UNIQ_KEY).unwrap_or_default();
    let group = record.property(prop::PGROUP).unwrap_or_default();
    match record.topic() {
        names::TRANS_HALF => {
            let pending = broker.state().transaction(position);
            let pending = pending.map_err(|e| unreadable(&e))?;
            pending.map(again).ok_or("the transaction has ended".into())
        }
        names::TRANS_CHECK_MAX => {
            let put_back = find::pending(broker, id, group).map_err(|e| unreadable(&e))?;
            if put_back.is_some() {
                return Err("the transaction is pending already".to_owned());
            }
            half(broker, &bytes, &record)
        }
        topic => Err(format!("a message of {topic} is no half message")),
    }
}

fn again(pending: PendingTransaction) -> Revival {
    Revival::Again(PendingTransaction {
        checks: 0,
        since_ms: now_ms(),
        ..pending
    })
}

fn half(broker: &Broker, bytes: &Bytes, record: &StoredRecord<'_>) -> Result<Revival, String> {
    if target(record).is_none() {
        return Err("the half message names no topic or queue".to_owned());
    }
    let dropped = [prop::TRANSACTION_CHECK_TIMES];
    let properties = stored_properties::rebuild(record.properties(), &dropped, &[]);
    let place = (names::TRANS_HALF, 0);
    let message = copy(broker, bytes, record, place, properties);
    Ok(Revival::Half(Box::new(message)))
}
