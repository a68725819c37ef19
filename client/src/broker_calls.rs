//! Requests to brokers that consumers and admin calls share. Each takes the broker's address.

use std::time::Duration;

use bytes::Bytes;
use raftmq_remoting::RemotingCommand;
use raftmq_remoting::body::MessageQueue;
use raftmq_remoting::header::{
    ConsumerSendMsgBackRequestHeader, GetConsumerListByGroupRequestHeader,
    GetMaxOffsetRequestHeader, GetMaxOffsetResponseHeader, GetMinOffsetRequestHeader,
    GetMinOffsetResponseHeader, PullMessageRequestHeader, PullMessageResponseHeader,
    QueryConsumerOffsetRequestHeader, QueryConsumerOffsetResponseHeader, SearchOffsetRequestHeader,
    SearchOffsetResponseHeader, UnregisterClientRequestHeader, UpdateConsumerOffsetRequestHeader,
    extra,
};
use raftmq_remoting::{json, request_code, response_code};

use crate::consumer::{PullResult, PullStatus};
use crate::error::ClientError;
use crate::instance::Shared;
use crate::message::ReceivedMessage;

/// A client waits this much longer than the broker holds a pull.
const PULL_GRACE: Duration = Duration::from_secs(15);

/// `{"consumerIdList":[…]}`
#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ConsumerIds {
    consumer_id_list: Vec<String>,
}

impl Shared {
    /// The offset a group committed for a queue; None when it never did.
    pub(crate) async fn committed_offset(
        &self,
        addr: &str,
        group: &str,
        queue: &MessageQueue,
    ) -> Result<Option<i64>, ClientError> {
        let header = QueryConsumerOffsetRequestHeader {
            consumer_group: group.into(),
            topic: queue.topic.as_str().into(),
            queue_id: queue.queue_id,
            set_zero_if_not_found: None,
        };
        let cmd = RemotingCommand::request_with(request_code::QUERY_CONSUMER_OFFSET, &header);
        match self
            .call(addr, cmd.with_ext(extra::BROKER_NAME, &queue.broker_name))
            .await
        {
            Ok(answer) => {
                let header: QueryConsumerOffsetResponseHeader =
                    answer.header().map_err(ClientError::header(addr))?;
                Ok(Some(header.offset))
            }
            Err(e) if e.code() == Some(response_code::QUERY_NOT_FOUND) => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(crate) async fn commit_offset(
        &self,
        addr: &str,
        group: &str,
        queue: &MessageQueue,
        offset: i64,
    ) -> Result<(), ClientError> {
        self.call(addr, commit_command(group, queue, offset))
            .await
            .map(drop)
    }

    /// As [`Self::commit_offset`], without an answer.
    pub(crate) async fn commit_offset_oneway(
        &self,
        addr: &str,
        group: &str,
        queue: &MessageQueue,
        offset: i64,
    ) -> Result<(), ClientError> {
        Ok(self
            .remoting
            .oneway(addr, commit_command(group, queue, offset))
            .await?)
    }

    pub(crate) async fn max_offset(
        &self,
        addr: &str,
        queue: &MessageQueue,
    ) -> Result<i64, ClientError> {
        let header = GetMaxOffsetRequestHeader {
            topic: queue.topic.as_str().into(),
            queue_id: queue.queue_id,
            committed: None,
        };
        let answer = self
            .call(
                addr,
                RemotingCommand::request_with(request_code::GET_MAX_OFFSET, &header),
            )
            .await?;
        Ok(answer
            .header::<GetMaxOffsetResponseHeader>()
            .map_err(ClientError::header(addr))?
            .offset)
    }

    pub(crate) async fn min_offset(
        &self,
        addr: &str,
        queue: &MessageQueue,
    ) -> Result<i64, ClientError> {
        let header = GetMinOffsetRequestHeader {
            topic: queue.topic.as_str().into(),
            queue_id: queue.queue_id,
        };
        let answer = self
            .call(
                addr,
                RemotingCommand::request_with(request_code::GET_MIN_OFFSET, &header),
            )
            .await?;
        Ok(answer
            .header::<GetMinOffsetResponseHeader>()
            .map_err(ClientError::header(addr))?
            .offset)
    }

    /// The offset of the first message stored at `timestamp_ms` or later.
    pub(crate) async fn search_offset(
        &self,
        addr: &str,
        queue: &MessageQueue,
        timestamp_ms: i64,
    ) -> Result<i64, ClientError> {
        let header = SearchOffsetRequestHeader {
            topic: queue.topic.as_str().into(),
            queue_id: queue.queue_id,
            timestamp: timestamp_ms,
            boundary_type: None,
        };
        let cmd = RemotingCommand::request_with(request_code::SEARCH_OFFSET_BY_TIMESTAMP, &header);
        let answer = self.call(addr, cmd).await?;
        Ok(answer
            .header::<SearchOffsetResponseHeader>()
            .map_err(ClientError::header(addr))?
            .offset)
    }

    /// Pulls once. Nothing found is a result, not an error.
    pub(crate) async fn pull(
        &self,
        addr: &str,
        broker_name: &str,
        header: &PullMessageRequestHeader,
    ) -> Result<PullResult, ClientError> {
        let held = Duration::from_millis(u64::try_from(header.suspend_timeout_millis).unwrap_or(0));
        let cmd = RemotingCommand::request_with(request_code::PULL_MESSAGE, header);
        let answer = self
            .remoting
            .invoke(
                addr,
                cmd.with_ext(extra::BROKER_NAME, broker_name),
                held + PULL_GRACE,
            )
            .await?;
        let status = match answer.code {
            response_code::SUCCESS => PullStatus::Found,
            response_code::PULL_NOT_FOUND => PullStatus::NoNewMessage,
            response_code::PULL_RETRY_IMMEDIATELY => PullStatus::NoMatchedMessage,
            response_code::PULL_OFFSET_MOVED => PullStatus::OffsetIllegal,
            code => {
                let remark = answer.remark.unwrap_or_default();
                return Err(ClientError::Broker {
                    addr: addr.to_owned(),
                    code,
                    remark,
                });
            }
        };
        let header: PullMessageResponseHeader =
            answer.header().map_err(ClientError::header(addr))?;
        let records: Bytes = if status == PullStatus::Found {
            answer.body.to_bytes()
        } else {
            Bytes::new()
        };
        let messages = ReceivedMessage::decode_all(&records, broker_name)
            .map_err(|why| ClientError::bad_answer(addr, why))?;
        Ok(PullResult {
            status,
            next_begin_offset: header.next_begin_offset,
            min_offset: header.min_offset,
            max_offset: header.max_offset,
            suggested_broker_id: header.suggest_which_broker_id,
            messages,
        })
    }

    /// Gives a message back: the broker delivers it again to the group's retry topic, later.
    pub(crate) async fn send_back(
        &self,
        addr: &str,
        group: &str,
        message: &ReceivedMessage,
        max_reconsume_times: i32,
    ) -> Result<(), ClientError> {
        let header = ConsumerSendMsgBackRequestHeader {
            offset: message.physical_offset,
            group: group.into(),
            delay_level: 0,
            origin_msg_id: Some(message.msg_id.clone()),
            origin_topic: Some(message.queue.topic.clone()),
            unit_mode: false,
            max_reconsume_times: Some(max_reconsume_times),
        };
        let cmd = RemotingCommand::request_with(request_code::CONSUMER_SEND_MSG_BACK, &header);
        self.call(
            addr,
            cmd.with_ext(extra::BROKER_NAME, &message.queue.broker_name),
        )
        .await
        .map(drop)
    }

    /// The ids of a group's living members, sorted.
    pub(crate) async fn consumer_ids(
        &self,
        addr: &str,
        group: &str,
    ) -> Result<Vec<String>, ClientError> {
        let header = GetConsumerListByGroupRequestHeader {
            consumer_group: group.into(),
        };
        let cmd = RemotingCommand::request_with(request_code::GET_CONSUMER_LIST_BY_GROUP, &header);
        let answer = self.call(addr, cmd).await?;
        let ids: ConsumerIds =
            json::from_slice(&answer.body.to_bytes()).map_err(ClientError::json(addr))?;
        let mut ids = ids.consumer_id_list;
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    pub(crate) async fn unregister_consumer(
        &self,
        addr: &str,
        group: &str,
    ) -> Result<(), ClientError> {
        let header = UnregisterClientRequestHeader {
            client_id: self.client_id.as_str().into(),
            producer_group: None,
            consumer_group: Some(group.into()),
        };
        self.call(
            addr,
            RemotingCommand::request_with(request_code::UNREGISTER_CLIENT, &header),
        )
        .await
        .map(drop)
    }

    /// The address of a queue's master, or of any broker of its set; asks for the route if it is not known.
    pub(crate) async fn queue_addr(&self, queue: &MessageQueue) -> Result<String, ClientError> {
        let route = self.route(&queue.topic, false).await?;
        let addr = route
            .master(&queue.broker_name)
            .or_else(|| route.any_addr(&queue.broker_name));
        addr.map(str::to_owned).ok_or_else(|| ClientError::NoRoute {
            topic: queue.topic.clone(),
        })
    }
}

fn commit_command(group: &str, queue: &MessageQueue, offset: i64) -> RemotingCommand {
    let header = UpdateConsumerOffsetRequestHeader {
        consumer_group: group.into(),
        topic: queue.topic.as_str().into(),
        queue_id: queue.queue_id,
        commit_offset: offset,
    };
    let cmd = RemotingCommand::request_with(request_code::UPDATE_CONSUMER_OFFSET, &header);
    cmd.with_ext(extra::BROKER_NAME, &queue.broker_name)
}
