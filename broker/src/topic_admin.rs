//! Topics, for administrators: create, change, delete, list (17, 18, 215, 21, 351, 305), CLEAN_UNUSED_TOPIC
//! (316).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use raftmq_remoting::body::{
    CreateTopicListRequestBody, DataVersion, TopicConfig, TopicConfigSerializeWrapper,
    TopicFilterType, TopicList,
};
use raftmq_remoting::codes::response;
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::{
    CreateTopicRequestHeader, DeleteTopicRequestHeader, GetTopicConfigRequestHeader,
};
use raftmq_remoting::json::{self, Limits};
use raftmq_store::Command;

use crate::broker::{Broker, now_ms, perm};
use crate::call::Call;
use crate::names;
use crate::send::Refusal;
use crate::topic_attributes;

/// Queues of one topic: each costs every replica files.
pub const MAX_QUEUES: i32 = 65_536;

/// Topics in one list request, which bounds an entry's size.
const MAX_TOPICS: usize = 4_096;

fn check(broker: &Broker, config: &TopicConfig) -> Result<(), Refusal> {
    let invalid = |remark: String| Err(Refusal::new(response::INVALID_PARAMETER, remark));
    let name = &config.topic_name;
    if let Err(why) = names::check_topic(name) {
        return invalid(why.to_owned());
    }
    if names::is_system_topic(&broker.config(), name) {
        return invalid(format!("The topic[{name}] is conflict with system topic."));
    }
    for queues in [config.read_queue_nums, config.write_queue_nums] {
        if !(0..=MAX_QUEUES).contains(&queues) {
            return invalid(format!(
                "{queues} queues: the number must be from 0 to {MAX_QUEUES}"
            ));
        }
    }
    if !perm::is_valid(config.perm) {
        return invalid(format!("perm {} is not from 0 to 7", config.perm));
    }
    Ok(())
}

/// UPDATE_AND_CREATE_TOPIC.
pub fn put(broker: &Arc<Broker>, call: Call) {
    let header: CreateTopicRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    match wanted(broker, header) {
        Ok(config) => {
            let command = Command::PutTopic {
                config,
                now_ms: now_ms(),
            };
            broker.propose_topics(call, vec![command]);
        }
        Err(refusal) => call.error(refusal.code, refusal.remark),
    }
}

fn wanted(broker: &Broker, header: CreateTopicRequestHeader) -> Result<TopicConfig, Refusal> {
    let filter = TopicFilterType::from_name(&header.topic_filter_type).ok_or_else(|| {
        let remark = format!(
            "topicFilterType = [{}] value invalid",
            header.topic_filter_type
        );
        Refusal::new(response::SYSTEM_ERROR, remark)
    })?;
    let mut config = TopicConfig {
        topic_name: header.topic,
        read_queue_nums: header.read_queue_nums,
        write_queue_nums: header.write_queue_nums,
        perm: header.perm,
        topic_filter_type: filter,
        topic_sys_flag: header.topic_sys_flag.unwrap_or(0),
        order: header.order,
        attributes: BTreeMap::new(),
    };
    check(broker, &config)?;
    let current = broker.state().topic(&config.topic_name);
    let text = header.attributes.as_deref().unwrap_or("");
    let mixed = broker.config().mixed_message_type;
    config.attributes =
        topic_attributes::alter(current.as_ref().map(|c| &c.attributes), text, mixed)?;
    Ok(config)
}

/// UPDATE_AND_CREATE_TOPIC_LIST: all or none.
pub fn put_list(broker: &Arc<Broker>, call: Call) {
    let body: CreateTopicListRequestBody =
        match json::from_request(&call.cmd.body.to_bytes(), Limits::REQUEST) {
            Ok(body) => body,
            Err(e) => {
                return call.error(
                    response::SYSTEM_ERROR,
                    format!("the topic list cannot be read: {e}"),
                );
            }
        };
    if body.topic_config_list.is_empty() {
        return call.ok();
    }
    if body.topic_config_list.len() > MAX_TOPICS {
        return call.error(
            response::INVALID_PARAMETER,
            format!("at most {MAX_TOPICS} topics in one request"),
        );
    }
    let mut commands = Vec::with_capacity(body.topic_config_list.len());
    for mut config in body.topic_config_list {
        let current = broker.state().topic(&config.topic_name);
        let checked = check(broker, &config).and_then(|()| {
            let mixed = broker.config().mixed_message_type;
            let current = current.as_ref().map(|c| &c.attributes);
            topic_attributes::from_map(current, &config.attributes, mixed)
        });
        match checked {
            Ok(attributes) => config.attributes = attributes,
            Err(refusal) => return call.error(refusal.code, refusal.remark),
        }
        commands.push(Command::PutTopic {
            config,
            now_ms: now_ms(),
        });
    }
    broker.propose_topics(call, commands);
}

/// DELETE_TOPIC_IN_BROKER, with the retry topics its consumers made by popping.
pub fn delete(broker: &Arc<Broker>, call: Call) {
    // Asked without a topic, RocketMQ finds it blank.
    let header: DeleteTopicRequestHeader = call.cmd.header().unwrap_or_default();
    let topic = header.topic;
    if topic.trim().is_empty() {
        return call.error(response::INVALID_PARAMETER, "The specified topic is blank.");
    }
    if names::is_system_topic(&broker.config(), &topic) {
        let remark = format!("The topic[{topic}] is conflict with system topic.");
        return call.error(response::INVALID_PARAMETER, remark);
    }
    let state = broker.state();
    let mut gone: BTreeSet<String> = BTreeSet::new();
    for group in state.groups_with_offsets(&topic) {
        gone.insert(format!("{}_{topic}", names::retry_topic(&group)));
        gone.insert(format!("{}+{topic}", names::retry_topic(&group)));
    }
    gone.insert(topic);
    gone.retain(|t| state.topic(t).is_some());
    if gone.is_empty() {
        return call.ok();
    }
    let commands = gone
        .into_iter()
        .map(|topic| Command::DeleteTopic {
            topic,
            now_ms: now_ms(),
        })
        .collect();
    broker.propose_topics(call, commands);
}

/// The table's version as name servers see it: the term decides between two masters.
pub fn version(broker: &Broker) -> DataVersion {
    DataVersion {
        state_version: broker.replica.role().term as i64,
        ..broker.state().topic_version()
    }
}

/// All topics with their version.
pub fn table(broker: &Broker) -> TopicConfigSerializeWrapper {
    // The version first: a topic added in between makes the next registration differ.
    let data_version = version(broker);
    let topics = broker.state().topics();
    TopicConfigSerializeWrapper {
        data_version,
        topic_config_table: topics
            .iter()
            .map(|t| (t.topic_name.clone(), TopicConfig::clone(t)))
            .collect(),
        ..Default::default()
    }
}

/// GET_ALL_TOPIC_CONFIG: never in pages, so no totalTopicNum.
pub fn get_all(broker: &Arc<Broker>, call: Call) {
    let body = json::to_bytes(&table(broker));
    call.reply(RemotingCommand::response(response::SUCCESS).with_body(body));
}

/// GET_TOPIC_CONFIG.
pub fn get(broker: &Arc<Broker>, call: Call) {
    let header: GetTopicConfigRequestHeader = match call.cmd.header() {
        Ok(header) => header,
        Err(e) => return call.bad_header(e),
    };
    match broker.state().topic(&header.topic) {
        Some(config) => {
            let body = json::to_bytes(config.as_ref());
            call.reply(RemotingCommand::response(response::SUCCESS).with_body(body));
        }
        None => {
            let remark = format!("No topic in this broker. topic: {}", header.topic);
            call.error(response::TOPIC_NOT_EXIST, remark)
        }
    }
}

/// GET_SYSTEM_TOPIC_LIST_FROM_BROKER.
pub fn system_topics(broker: &Arc<Broker>, call: Call) {
    let list = TopicList {
        broker_addr: None,
        topic_list: names::system_topics(&broker.config()).into_iter().collect(),
    };
    call.reply(RemotingCommand::response(response::SUCCESS).with_body(json::to_bytes(&list)));
}

/// CLEAN_UNUSED_TOPIC: a topic's queues go with the topic, so none are ever left to be cleaned.
pub fn clean_unused(_: &Arc<Broker>, call: Call) {
    call.ok();
}
