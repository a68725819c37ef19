//! A send request, all but its queue, and reading its answer.

use bytes::Bytes;
use raftmq_remoting::body::MessageQueue;
use raftmq_remoting::header::{SendMessageRequestHeader, SendMessageResponseHeader};
use raftmq_remoting::message::{BatchItem, MAX_PROPERTIES_LENGTH, batch, properties, sysflag};
use raftmq_remoting::validate::AUTO_CREATE_TOPIC;
use raftmq_remoting::{Body, ByteStr, RemotingCommand, request_code, response_code};

use super::{ProducerConfig, SendResult, SendStatus, check_message};
use crate::config::now_ms;
use crate::error::ClientError;
use crate::message::Message;
use crate::route::DEFAULT_TOPIC_QUEUE_NUMS;

/// A message or batch, encoded once for all tries.
pub(super) struct Prepared {
    pub(super) topic: ByteStr,
    pub(super) msg_id: String,
    group: ByteStr,
    flag: i32,
    sys_flag: i32,
    batch: bool,
    properties: ByteStr,
    body: Body,
}

impl Prepared {
    pub(super) fn one(message: Message, config: &ProducerConfig) -> Result<Self, ClientError> {
        check_message(&message, config)?;
        let (properties, msg_id) = message.encode_properties()?;
        let prepared = message.get_property(properties::TRAN_MSG) == Some("true");
        Ok(Self {
            msg_id,
            group: config.group.as_str().into(),
            flag: message.flag,
            sys_flag: if prepared {
                sysflag::TRANSACTION_PREPARED
            } else {
                0
            },
            batch: false,
            properties: text(properties)?,
            body: message.body.into(),
            topic: message.topic.into(),
        })
    }

    pub(super) fn batch(
        messages: &[Message],
        config: &ProducerConfig,
    ) -> Result<Self, ClientError> {
        let Some(first) = messages.first() else {
            return Err(ClientError::Invalid("the batch is empty".into()));
        };
        let mut items = Vec::with_capacity(messages.len());
        let mut ids = Vec::with_capacity(messages.len());
        for message in messages {
            check_message(message, config)?;
            if message.topic != first.topic {
                return Err(ClientError::Invalid(
                    "the messages of a batch have different topics".into(),
                ));
            }
            if message.get_property(properties::DELAY).is_some() {
                return Err(ClientError::Invalid(
                    "a message of a batch cannot be delayed".into(),
                ));
            }
            let (properties, id) = message.encode_properties()?;
            items.push(BatchItem {
                flag: message.flag,
                body: message.body.clone(),
                properties,
            });
            ids.push(id);
        }
        let body = batch::encode(&items).map_err(|e| ClientError::Invalid(e.to_string()))?;
        if body.len() > config.max_message_size {
            let (is, max) = (body.len(), config.max_message_size);
            return Err(ClientError::Invalid(format!(
                "the batch has {is} bytes, more than {max}"
            )));
        }
        let msg_id = ids.join(",");
        Ok(Self {
            topic: first.topic.as_str().into(),
            group: config.group.as_str().into(),
            flag: 0,
            sys_flag: 0,
            batch: true,
            properties: ByteStr::default(),
            body: body.into(),
            msg_id,
        })
    }

    /// The request that sends this to `queue`.
    pub(super) fn command(&self, queue: &MessageQueue) -> RemotingCommand {
        let header = SendMessageRequestHeader {
            producer_group: self.group.clone(),
            topic: self.topic.clone(),
            default_topic: ByteStr::from_static(AUTO_CREATE_TOPIC),
            default_topic_queue_nums: DEFAULT_TOPIC_QUEUE_NUMS,
            queue_id: queue.queue_id,
            sys_flag: self.sys_flag,
            born_timestamp: now_ms(),
            flag: self.flag,
            properties: Some(self.properties.clone()),
            reconsume_times: Some(0),
            unit_mode: false,
            max_reconsume_times: None,
            batch: self.batch,
            broker_name: Some(queue.broker_name.as_str().into()),
        };
        let code = if self.batch {
            request_code::SEND_BATCH_MESSAGE
        } else {
            request_code::SEND_MESSAGE_V2
        };
        let mut cmd = RemotingCommand::request(code).with_body(self.body.clone());
        header.encode_v2(&mut cmd.ext);
        cmd
    }

    /// What the answer says.
    pub(super) fn result(
        &self,
        addr: &str,
        queue: &MessageQueue,
        answer: &RemotingCommand,
    ) -> Result<SendResult, ClientError> {
        let status = match answer.code {
            response_code::SUCCESS => SendStatus::Ok,
            response_code::FLUSH_DISK_TIMEOUT => SendStatus::FlushDiskTimeout,
            response_code::FLUSH_SLAVE_TIMEOUT => SendStatus::FlushSlaveTimeout,
            response_code::SLAVE_NOT_AVAILABLE => SendStatus::SlaveNotAvailable,
            code => {
                let remark = answer.remark.clone().unwrap_or_default();
                return Err(ClientError::Broker {
                    addr: addr.to_owned(),
                    code,
                    remark,
                });
            }
        };
        let header: SendMessageResponseHeader =
            answer.header().map_err(ClientError::header(addr))?;
        Ok(SendResult {
            status,
            msg_id: self.msg_id.clone(),
            offset_msg_id: header.msg_id,
            broker: queue.broker_name.clone(),
            queue_id: header.queue_id,
            queue_offset: header.queue_offset,
        })
    }
}

fn text(properties: Bytes) -> Result<ByteStr, ClientError> {
    if properties.len() > MAX_PROPERTIES_LENGTH {
        let is = properties.len();
        return Err(ClientError::Invalid(format!(
            "the properties have {is} bytes, more than {MAX_PROPERTIES_LENGTH}"
        )));
    }
    ByteStr::from_utf8(properties).map_err(|e| ClientError::Invalid(e.to_string()))
}
