//! Looking messages up: QUERY_MESSAGE (12), VIEW_MESSAGE_BY_ID (33).

use std::sync::Arc;

use bytes::Bytes;
use raftmq_remoting::codes::response;
use raftmq_remoting::command::{Body, RemotingCommand};
use raftmq_remoting::header::{
    QueryMessageRequestHeader, QueryMessageResponseHeader, ViewMessageRequestHeader, extra,
};

use crate::broker::Broker;
use crate::call::Call;
use crate::offset::{on_disk, with_lease};

/// Most bytes of messages in one answer; one message is always told.
const MAX_ANSWER: usize = 8 << 20;

/// QUERY_MESSAGE: messages with a key or a unique id, in the order they were stored. Those of the master, under its lease:
/// what was acknowledged is found.
pub fn query(broker: &Arc<Broker>, call: Call) {
    let header: QueryMessageRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let by_id = call.cmd.ext.get(extra::UNIQUE_KEY_QUERY) == Some("true");
    let max = match by_id {
        true => broker.config().default_query,
        false => usize::try_from(header.max_num).unwrap_or(0),
    };
    let max = max.min(broker.config().max_query);
    with_lease(broker, call, |call| {
        on_disk(broker, call, move |broker| {
            let range = (header.begin_timestamp, header.end_timestamp);
            let found = broker
                .replica
                .query_keys(&header.topic, &header.key, range, max)?;
            Ok(answer(broker, found))
        });
    });
}

/// As many of the newest as fit, oldest first.
fn answer(broker: &Broker, newest_first: Vec<Bytes>) -> RemotingCommand {
    if newest_first.is_empty() {
        let remark = "can not find message, maybe time range not correct";
        let header = QueryMessageResponseHeader {
            index_last_update_timestamp: 0,
            index_last_update_phyoffset: 0,
        };
        return RemotingCommand::response(response::QUERY_NOT_FOUND)
            .with_remark(remark)
            .with_header(&header);
    }
    let (timestamp, position) = broker.replica.last_indexed();
    let header = QueryMessageResponseHeader {
        index_last_update_timestamp: timestamp,
        index_last_update_phyoffset: position as i64,
    };
    RemotingCommand::response(response::SUCCESS)
        .with_header(&header)
        .with_body(Body::Parts(fitting(newest_first, MAX_ANSWER)))
}

/// The first ones up to `max` bytes, at least one, turned round.
fn fitting(newest_first: Vec<Bytes>, max: usize) -> Vec<Bytes> {
    let mut bytes = 0;
    let mut parts: Vec<Bytes> = Vec::with_capacity(newest_first.len());
    for record in newest_first {
        bytes += record.len();
        if bytes > max && !parts.is_empty() {
            break;
        }
        parts.push(record);
    }
    parts.reverse();
    parts
}

/// VIEW_MESSAGE_BY_ID: the stored record at a physical offset.
pub fn view(broker: &Arc<Broker>, call: Call) {
    let header: ViewMessageRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    on_disk(broker, call, move |broker| {
        Ok(match broker.replica.read_record_at(header.offset) {
            Ok(record) => RemotingCommand::response(response::SUCCESS).with_body(record),
            Err(_) => {
                let remark = format!("can not find message by the offset, {}", header.offset);
                RemotingCommand::response(response::SYSTEM_ERROR).with_remark(remark)
            }
        })
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_the_newest_in_order() {
        let records = || ["cccc", "bb", "a"].map(Bytes::from).to_vec();
        assert_eq!(fitting(records(), 7), ["a", "bb", "cccc"]);
        assert_eq!(fitting(records(), 6), ["bb", "cccc"]);
        assert_eq!(fitting(records(), 5), ["cccc"]);
        assert_eq!(fitting(records(), 0), ["cccc"]);
        assert!(fitting(Vec::new(), 10).is_empty());
    }
}
