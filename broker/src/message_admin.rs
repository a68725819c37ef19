//! Looking at single messages: VIEW_MESSAGE_BY_ID (33).

use std::sync::Arc;

use raftmq_remoting::codes::response;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::ViewMessageRequestHeader;

use crate::broker::Broker;
use crate::call::Call;
use crate::offset::on_disk;

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
