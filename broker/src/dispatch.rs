//! The table of requests this broker serves: code, handler, and where it must run.
//!
//! [`dispatch`] is called on the connection's read task for each request in arrival order, and again for a request that
//! had to wait. Whatever is not in the table is answered with code 3.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use raftmq_remoting::channel::{Channel, corked};
use raftmq_remoting::codes::{request, response};
use raftmq_remoting::command::LanguageCode;
use raftmq_remoting::server::{Handler, Request};

use crate::broker::Broker;
use crate::call::Call;
use crate::{
    broker_admin, client_call, client_manager, connection_admin, consumer_admin, group_admin,
    ha_status, large_answers, lock, message_admin, offset, pull, queue_admin, raft_admin, recall,
    reply, reset_offset, retention, send, send_back, settings, stats_admin, topic_admin,
    transaction,
};

/// Which replica may run a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Any replica: it reads or writes what this replica knows by itself.
    Here,
    /// The master; other replicas pass the request on. When the answer is lost the request may have been executed.
    LeaderOnce,
    /// As `LeaderOnce`, but executing it again, later, does no harm, so a lost answer is asked for again. No write whose order
    /// matters: what it says would come back after somebody else had written something newer.
    Leader,
}

/// One supported request.
pub struct Entry {
    pub code: i32,
    pub place: Place,
    /// Served on listenPort alone, not on the second port.
    pub main_port_only: bool,
    pub handler: fn(&Arc<Broker>, Call),
}

const fn entry(code: i32, place: Place, handler: fn(&Arc<Broker>, Call)) -> Entry {
    Entry {
        code,
        place,
        main_port_only: false,
        handler,
    }
}

const fn main_port(code: i32, place: Place, handler: fn(&Arc<Broker>, Call)) -> Entry {
    Entry {
        code,
        place,
        main_port_only: true,
        handler,
    }
}

use Place::{Here, Leader, LeaderOnce};

/// Every supported request, by ascending code.
pub const TABLE: &[Entry] = &[
    entry(request::SEND_MESSAGE, LeaderOnce, send::send),
    // A pull decides by itself what a follower may serve.
    main_port(request::PULL_MESSAGE, Here, pull::pull),
    entry(request::QUERY_MESSAGE, Leader, message_admin::query),
    entry(request::QUERY_CONSUMER_OFFSET, Leader, offset::query),
    entry(request::UPDATE_CONSUMER_OFFSET, LeaderOnce, offset::update),
    entry(
        request::UPDATE_AND_CREATE_TOPIC,
        LeaderOnce,
        topic_admin::put,
    ),
    entry(
        request::UPDATE_AND_CREATE_TOPIC_LIST,
        LeaderOnce,
        topic_admin::put_list,
    ),
    entry(request::GET_ALL_TOPIC_CONFIG, Here, topic_admin::get_all),
    entry(request::UPDATE_BROKER_CONFIG, LeaderOnce, settings::update),
    entry(request::GET_BROKER_CONFIG, Here, broker_admin::get_config),
    entry(
        request::GET_BROKER_RUNTIME_INFO,
        Here,
        broker_admin::runtime_info,
    ),
    entry(request::SEARCH_OFFSET_BY_TIMESTAMP, Leader, offset::search),
    entry(request::GET_MAX_OFFSET, Leader, offset::max),
    entry(request::GET_MIN_OFFSET, Leader, offset::min),
    entry(
        request::GET_EARLIEST_MSG_STORETIME,
        Leader,
        offset::earliest,
    ),
    entry(request::VIEW_MESSAGE_BY_ID, Leader, message_admin::view),
    entry(request::HEART_BEAT, Here, client_manager::heartbeat),
    entry(request::UNREGISTER_CLIENT, Here, client_manager::unregister),
    entry(
        request::CONSUMER_SEND_MSG_BACK,
        LeaderOnce,
        send_back::send_back,
    ),
    entry(request::END_TRANSACTION, LeaderOnce, transaction::end),
    entry(
        request::GET_CONSUMER_LIST_BY_GROUP,
        // A replica that has just started has not heard of all clients yet.
        Leader,
        client_manager::consumer_list,
    ),
    entry(request::LOCK_BATCH_MQ, Leader, lock::lock),
    entry(request::UNLOCK_BATCH_MQ, Leader, lock::unlock),
    entry(
        request::GET_ALL_CONSUMER_OFFSET,
        Here,
        consumer_admin::all_offsets,
    ),
    entry(
        request::CHECK_CLIENT_CONFIG,
        Here,
        client_manager::check_config,
    ),
    entry(
        request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP,
        LeaderOnce,
        group_admin::put,
    ),
    entry(
        request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG,
        Here,
        group_admin::get_all,
    ),
    entry(
        request::GET_TOPIC_STATS_INFO,
        Leader,
        stats_admin::topic_stats,
    ),
    entry(
        request::GET_CONSUMER_CONNECTION_LIST,
        Here,
        connection_admin::consumers,
    ),
    entry(
        request::GET_PRODUCER_CONNECTION_LIST,
        Here,
        connection_admin::producers,
    ),
    entry(
        request::DELETE_SUBSCRIPTIONGROUP,
        LeaderOnce,
        group_admin::delete,
    ),
    entry(
        request::GET_CONSUME_STATS,
        Leader,
        stats_admin::consume_stats,
    ),
    entry(
        request::DELETE_TOPIC_IN_BROKER,
        LeaderOnce,
        topic_admin::delete,
    ),
    entry(
        request::INVOKE_BROKER_TO_RESET_OFFSET,
        LeaderOnce,
        reset_offset::reset,
    ),
    entry(
        request::INVOKE_BROKER_TO_GET_CONSUMER_STATUS,
        Here,
        client_call::status,
    ),
    entry(
        request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST,
        LeaderOnce,
        group_admin::put_list,
    ),
    entry(
        request::QUERY_TOPIC_CONSUME_BY_WHO,
        Here,
        stats_admin::consumed_by,
    ),
    entry(
        request::QUERY_CONSUME_TIME_SPAN,
        Leader,
        consumer_admin::time_span,
    ),
    entry(
        request::GET_SYSTEM_TOPIC_LIST_FROM_BROKER,
        Here,
        topic_admin::system_topics,
    ),
    entry(
        request::CLEAN_EXPIRED_CONSUMEQUEUE,
        Here,
        retention::clean_queues,
    ),
    entry(
        request::GET_CONSUMER_RUNNING_INFO,
        Here,
        client_call::running_info,
    ),
    entry(
        request::QUERY_CORRECTION_OFFSET,
        Leader,
        consumer_admin::correction,
    ),
    entry(
        request::CONSUME_MESSAGE_DIRECTLY,
        Here,
        client_call::consume,
    ),
    entry(request::SEND_MESSAGE_V2, LeaderOnce, send::send),
    entry(
        request::CLONE_GROUP_OFFSET,
        LeaderOnce,
        consumer_admin::clone_offsets,
    ),
    entry(
        request::VIEW_BROKER_STATS_DATA,
        Here,
        stats_admin::view_stats,
    ),
    entry(request::CLEAN_UNUSED_TOPIC, Here, topic_admin::clean_unused),
    entry(
        request::GET_BROKER_CONSUME_STATS,
        Leader,
        consumer_admin::broker_stats,
    ),
    entry(request::SEND_BATCH_MESSAGE, LeaderOnce, send::send),
    entry(request::QUERY_CONSUME_QUEUE, Here, queue_admin::query),
    entry(
        request::RESUME_CHECK_HALF_MESSAGE,
        LeaderOnce,
        transaction::resume,
    ),
    entry(request::SEND_REPLY_MESSAGE, LeaderOnce, reply::reply),
    entry(request::SEND_REPLY_MESSAGE_V2, LeaderOnce, reply::reply),
    entry(
        request::GET_ALL_PRODUCER_INFO,
        Here,
        connection_admin::all_producers,
    ),
    entry(
        request::DELETE_EXPIRED_COMMITLOG,
        Leader,
        retention::delete_expired,
    ),
    entry(
        request::QUERY_TOPICS_BY_CONSUMER,
        Here,
        consumer_admin::topics,
    ),
    entry(
        request::QUERY_SUBSCRIPTION_BY_CONSUMER,
        Here,
        consumer_admin::subscription,
    ),
    entry(request::GET_TOPIC_CONFIG, Here, topic_admin::get),
    entry(
        request::GET_SUBSCRIPTIONGROUP_CONFIG,
        Here,
        group_admin::get,
    ),
    main_port(request::LITE_PULL_MESSAGE, Here, pull::pull),
    entry(request::RECALL_MESSAGE, LeaderOnce, recall::recall),
    entry(request::GET_BROKER_HA_STATUS, Here, ha_status::status),
    entry(request::RAFT_STATUS, Here, raft_admin::status),
    // They are passed on with a deadline of their own.
    entry(request::RAFT_TRANSFER_LEADER, Here, raft_admin::transfer),
    entry(request::RAFT_ADD_REPLICA, Here, raft_admin::add),
    entry(request::RAFT_REMOVE_REPLICA, Here, raft_admin::remove),
    entry(request::RAFT_FINALIZE_UPGRADE, Here, raft_admin::finalize),
];

/// The table's row for a request code.
pub fn find(code: i32) -> Option<&'static Entry> {
    TABLE
        .binary_search_by_key(&code, |e| e.code)
        .ok()
        .map(|i| &TABLE[i])
}

/// Starts, or starts again, a request.
pub fn dispatch(broker: &Arc<Broker>, call: Call) {
    let Some(entry) = find(call.cmd.code) else {
        let remark = format!(" request type {} not supported", call.cmd.code);
        return call.error(response::REQUEST_CODE_NOT_SUPPORTED, remark);
    };
    if entry.place != Here && !broker.leads() {
        return crate::forward::to_leader(broker, call);
    }
    if large_answers::is_large(entry.code) && call.large.is_none() {
        return broker.large_answers.run(broker, call, entry.handler);
    }
    (entry.handler)(broker, call);
}

/// Newer Java clients know GO_AWAY: they make a new connection and ask once more (V5_3_1).
const LAST_WITHOUT_GO_AWAY: i32 = 475;

/// What the remoting server calls: one for each client port.
pub struct ClientPort {
    broker: Arc<Broker>,
    /// The second port leaves pulls out, so that they cannot crowd out sends.
    main: bool,
}

impl ClientPort {
    pub fn new(broker: Arc<Broker>, main: bool) -> Self {
        Self { broker, main }
    }
}

impl Handler for ClientPort {
    fn handle(&self, request: Request) {
        let call = Call::new(request, self.broker.config().ack_timeout());
        if call.hop_term.is_some() {
            self.broker.forwarding.lock().insert(call.channel().id());
            call.channel().mark_peer();
        }
        // Whoever comes back on a new connection is served once more.
        let old = call.channel().id() <= self.broker.closing.load(Ordering::Relaxed);
        let knows =
            call.cmd.language == LanguageCode::Java && call.cmd.version > LAST_WITHOUT_GO_AWAY;
        if old && knows && call.hop_term.is_none() {
            return call.error(response::GO_AWAY, "this broker stops, please go away");
        }
        if !self.main && find(call.cmd.code).is_some_and(|e| e.main_port_only) {
            let remark = format!(" request type {} not supported", call.cmd.code);
            return call.error(response::REQUEST_CODE_NOT_SUPPORTED, remark);
        }
        dispatch(&self.broker, call);
    }

    fn together(&self, run: &mut dyn FnMut()) {
        corked(|| self.broker.replica.together(run));
    }

    fn disconnected(&self, channel: &Channel) {
        self.broker.forwarding.lock().remove(&channel.id());
        self.broker.clients.channel_closed(&self.broker, channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_unique() {
        assert!(TABLE.windows(2).all(|w| w[0].code < w[1].code));
    }

    /// A commit of 4 that was executed, whose answer was lost, and which was repeated after another client's commit of 0 was
    /// acknowledged: the group's offset went from 0 back to 4. And when it was not repeated in time, its refusal said that
    /// nothing had been stored.
    #[test]
    fn no_write_is_repeated_after_a_lost_answer() {
        let writes = [
            request::SEND_MESSAGE,
            request::SEND_MESSAGE_V2,
            request::SEND_BATCH_MESSAGE,
            request::CONSUMER_SEND_MSG_BACK,
            request::END_TRANSACTION,
            request::RECALL_MESSAGE,
            request::UPDATE_CONSUMER_OFFSET,
            request::UPDATE_AND_CREATE_TOPIC,
            request::UPDATE_AND_CREATE_TOPIC_LIST,
            request::DELETE_TOPIC_IN_BROKER,
            request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP,
            request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST,
            request::DELETE_SUBSCRIPTIONGROUP,
            request::UPDATE_BROKER_CONFIG,
            request::INVOKE_BROKER_TO_RESET_OFFSET,
            request::CLONE_GROUP_OFFSET,
            request::SEND_REPLY_MESSAGE,
            request::SEND_REPLY_MESSAGE_V2,
        ];
        for code in writes {
            assert_eq!(find(code).map(|e| e.place), Some(LeaderOnce), "{code}");
        }
    }

    #[test]
    fn rows_are_found() {
        assert_eq!(find(310).map(|e| e.place), Some(LeaderOnce));
        assert!(find(11).is_some_and(|e| e.main_port_only));
        assert!(find(9999).is_none());
        assert!(find(-1).is_none());
    }
}
