//! GET_BROKER_HA_STATUS (907): what `mqadmin haStatus` shows of a set.
//!
//! Taken from how the members say they stand; the speed of a transfer is not measured and shown as 0. RAFT_STATUS says more.

use std::sync::Arc;

use raftmq_raft::{ReplicaStatus, SetStatus};
use raftmq_remoting::body::{HaClientRuntimeInfo, HaConnectionRuntimeInfo, HaRuntimeInfo};
use raftmq_remoting::codes::response;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::json;

use crate::broker::{Broker, now_ms};
use crate::call::Call;

/// GET_BROKER_HA_STATUS: the master speaks of the others, another replica of itself.
pub fn status(broker: &Arc<Broker>, call: Call) {
    let shared = broker.clone();
    broker.runtime.spawn(async move {
        let set = shared.standing.get(&shared).await;
        let body = described(&set, shared.replica.role().me.node_id, shared.leads());
        call.reply(RemotingCommand::response(response::SUCCESS).with_body(json::to_bytes(&body)));
    });
}

fn end(replica: &ReplicaStatus) -> i64 {
    replica.last_position.unwrap_or(0) as i64
}

fn described(set: &SetStatus, me: u64, master: bool) -> HaRuntimeInfo {
    let find = |id: u64| set.replicas.iter().find(|r| r.member.node_id == id);
    let leader = set.leader.as_ref();
    let leader_end = leader.and_then(|l| find(l.node_id)).map_or(0, end);
    let mut info = HaRuntimeInfo {
        master,
        master_commit_log_max_offset: leader_end,
        ..Default::default()
    };
    if master {
        let others = set.replicas.iter().filter(|r| r.member.node_id != me);
        let connection = |r: &ReplicaStatus| HaConnectionRuntimeInfo {
            addr: r.member.client_addr.clone(),
            diff: leader_end - end(r),
            in_sync: r.in_sync,
            slave_ack_offset: end(r),
            transfer_from_where: end(r),
            transferred_byte_in_second: 0,
        };
        info.ha_connection_info = others.map(connection).collect();
        let in_sync = info.ha_connection_info.iter().filter(|c| c.in_sync);
        info.in_sync_slave_nums = in_sync.count() as i32;
        return info;
    }
    let own = find(me);
    let silent = own.and_then(|r| r.last_contact_ms);
    let heard = silent.map_or(0, |ms| now_ms() - ms as i64);
    info.ha_client_runtime_info = HaClientRuntimeInfo {
        last_read_timestamp: heard,
        last_write_timestamp: heard,
        master_addr: leader.map_or_else(String::new, |l| l.client_addr.clone()),
        master_flush_offset: leader_end,
        max_offset: own.map_or(0, end),
        transferred_byte_in_second: 0,
    };
    info
}
