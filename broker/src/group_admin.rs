//! Subscription groups, for administrators: create, change, delete, list (200, 225, 207, 201, 352).

use std::sync::Arc;

use raftmq_remoting::body::{
    DataVersion, SubscriptionGroupConfig, SubscriptionGroupList, SubscriptionGroupWrapper,
};
use raftmq_remoting::codes::response;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::{
    DeleteSubscriptionGroupRequestHeader, GetSubscriptionGroupConfigRequestHeader,
};
use raftmq_remoting::json::{self, Limits};
use raftmq_store::Command;

use crate::broker::{Broker, now_ms};
use crate::call::Call;
use crate::creation;
use crate::names;
use crate::send::Refusal;

/// Groups in one list request, which bounds an entry's size.
const MAX_GROUPS: usize = 4_096;

/// Queues of a retry topic.
const MAX_RETRY_QUEUES: i32 = 1_024;

fn check(broker: &Broker, config: &SubscriptionGroupConfig) -> Result<(), Refusal> {
    let invalid = |remark: String| Err(Refusal::new(response::INVALID_PARAMETER, remark));
    let name = &config.group_name;
    if name.is_empty() {
        return invalid("the groupName is missing".to_owned());
    }
    if !names::is_group_name(name) {
        return invalid(format!(
            "the group name {name:?} contains characters other than %|a-zA-Z0-9_- or is too long"
        ));
    }
    let known = broker.state().group(name);
    if name.len() > names::MAX_NEW_GROUP && known.is_none() {
        return invalid(format!(
            "the group name is longer than {} characters",
            names::MAX_NEW_GROUP
        ));
    }
    if !(0..=MAX_RETRY_QUEUES).contains(&config.retry_queue_nums) {
        return invalid(format!(
            "retryQueueNums must be from 0 to {MAX_RETRY_QUEUES}"
        ));
    }
    if let Some(key) = config.attributes.keys().next() {
        let key = key.trim_start_matches(['+', '-']);
        return Err(Refusal::new(
            response::SYSTEM_ERROR,
            format!("unsupported key: {key}"),
        ));
    }
    Ok(())
}

/// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP.
pub fn put(broker: &Arc<Broker>, call: Call) {
    match json::from_request::<SubscriptionGroupConfig>(&call.cmd.body.to_bytes(), Limits::REQUEST)
    {
        Ok(config) => put_all(broker, call, vec![config]),
        Err(e) => call.error(
            response::SYSTEM_ERROR,
            format!("the group cannot be read: {e}"),
        ),
    }
}

/// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST: all or none.
pub fn put_list(broker: &Arc<Broker>, call: Call) {
    match json::from_request::<SubscriptionGroupList>(&call.cmd.body.to_bytes(), Limits::REQUEST) {
        Ok(list) => put_all(broker, call, list.group_config_list),
        Err(e) => call.error(
            response::SYSTEM_ERROR,
            format!("the group list cannot be read: {e}"),
        ),
    }
}

fn put_all(broker: &Arc<Broker>, call: Call, groups: Vec<SubscriptionGroupConfig>) {
    if groups.len() > MAX_GROUPS {
        return call.error(
            response::INVALID_PARAMETER,
            format!("at most {MAX_GROUPS} groups in one request"),
        );
    }
    if groups.is_empty() {
        return call.ok();
    }
    for config in &groups {
        if let Err(refusal) = check(broker, config) {
            return call.error(refusal.code, refusal.remark);
        }
    }
    // A group's retry topic follows it.
    let retry_topics = groups.iter().filter_map(|group| {
        let topic = broker
            .state()
            .topic(&names::retry_topic(&group.group_name))?;
        creation::with_retry_queues(&topic, group.retry_queue_nums)
    });
    let mut commands: Vec<Command> = retry_topics
        .map(|config| Command::PutTopic {
            config,
            now_ms: now_ms(),
        })
        .collect();
    let topics_change = !commands.is_empty();
    commands.extend(groups.into_iter().map(|config| Command::PutGroup {
        config,
        now_ms: now_ms(),
    }));
    if topics_change {
        broker.propose_topics(call, commands);
    } else {
        broker.propose_for(call, commands, |_, call| call.ok());
    }
}

/// DELETE_SUBSCRIPTIONGROUP.
pub fn delete(broker: &Arc<Broker>, call: Call) {
    let header: DeleteSubscriptionGroupRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    let known = broker.state().group(&header.group_name).is_some();
    if !known && !header.clean_offset {
        return call.ok();
    }
    let command = Command::DeleteGroup {
        group: header.group_name,
        clean_offset: header.clean_offset,
        now_ms: now_ms(),
    };
    broker.propose_for(call, vec![command], |_, call| call.ok());
}

/// GET_ALL_SUBSCRIPTIONGROUP_CONFIG: never in pages, so no totalGroupNum.
pub fn get_all(broker: &Arc<Broker>, call: Call) {
    let term = broker.replica.role().term as i64;
    let groups = broker.state().groups();
    let body = SubscriptionGroupWrapper {
        data_version: DataVersion {
            state_version: term,
            ..broker.state().group_version()
        },
        subscription_group_table: groups
            .iter()
            .map(|g| (g.group_name.clone(), SubscriptionGroupConfig::clone(g)))
            .collect(),
        ..Default::default()
    };
    call.reply(RemotingCommand::response(response::SUCCESS).with_body(json::to_bytes(&body)));
}

/// GET_SUBSCRIPTIONGROUP_CONFIG: a group that may be created is.
pub fn get(broker: &Arc<Broker>, call: Call) {
    let header: GetSubscriptionGroupConfigRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    match creation::group(broker, &header.group) {
        Some(config) => {
            let body = json::to_bytes(config.as_ref());
            call.reply(RemotingCommand::response(response::SUCCESS).with_body(body));
        }
        None => {
            let remark = format!("No group in this broker. group: {}", header.group);
            call.error(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark)
        }
    }
}
