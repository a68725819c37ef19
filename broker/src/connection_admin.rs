//! Who is connected, for administrators: GET_CONSUMER_CONNECTION_LIST (203), GET_PRODUCER_CONNECTION_LIST (204) and
//! GET_ALL_PRODUCER_INFO (328).

use std::sync::Arc;

use raftmq_remoting::body::ProducerTableInfo;
use raftmq_remoting::codes::response;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::{
    GetConsumerConnectionListRequestHeader, GetProducerConnectionListRequestHeader,
};
use raftmq_remoting::json;

use crate::broker::Broker;
use crate::call::Call;

/// GET_CONSUMER_CONNECTION_LIST.
pub fn consumers(broker: &Arc<Broker>, call: Call) {
    let header: GetConsumerConnectionListRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    match broker.clients.consumer_connection(&header.consumer_group) {
        Some(body) => call
            .reply(RemotingCommand::response(response::SUCCESS).with_body(json::to_bytes(&body))),
        None => {
            let remark = format!("the consumer group[{}] not online", header.consumer_group);
            call.error(response::CONSUMER_NOT_ONLINE, remark)
        }
    }
}

/// GET_PRODUCER_CONNECTION_LIST.
pub fn producers(broker: &Arc<Broker>, call: Call) {
    let header: GetProducerConnectionListRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    match broker.clients.producer_connection(&header.producer_group) {
        Some(body) => call
            .reply(RemotingCommand::response(response::SUCCESS).with_body(json::to_bytes(&body))),
        None => {
            let remark = format!("the producer group[{}] not exist", header.producer_group);
            call.error(response::SYSTEM_ERROR, remark)
        }
    }
}

/// GET_ALL_PRODUCER_INFO.
pub fn all_producers(broker: &Arc<Broker>, call: Call) {
    let data = broker.clients.all_producers();
    let body = json::to_bytes(&ProducerTableInfo { data });
    call.reply(RemotingCommand::response(response::SUCCESS).with_body(body));
}
