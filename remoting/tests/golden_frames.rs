//! Frames written by the Java library decode to what was put in, and encode back to the same bytes.

mod common;

use bytes::Bytes;
use common::golden;
use raftmq_remoting::body::{HeartbeatData, TopicRouteData};
use raftmq_remoting::frame::{decode_frame, encode};
use raftmq_remoting::header::*;
use raftmq_remoting::message::{StoredRecord, batch, properties};
use raftmq_remoting::{LanguageCode, RemotingCommand, SerializeType, json, request_code};

const FRAMES: [&str; 13] = [
    "send-v1",
    "send-v2",
    "send-batch",
    "pull",
    "pull-found",
    "send-answer",
    "error-answer",
    "bare-answer",
    "heartbeat",
    "route",
    "route-answer",
    "pop",
    "oneway",
];

fn read(name: &str) -> RemotingCommand {
    let frame = golden(name);
    assert_eq!(
        u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize,
        frame.len() - 4,
        "{name}"
    );
    decode_frame(frame.slice(4..)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Runs `check` on the frame in both header forms.
fn both(name: &str, check: impl Fn(&RemotingCommand)) {
    for (prefix, serialize) in [
        ("json", SerializeType::Json),
        ("binary", SerializeType::RocketMq),
    ] {
        let cmd = read(&format!("{prefix}-{name}"));
        assert_eq!(cmd.serialize, serialize);
        assert_eq!(cmd.version, 479);
        check(&cmd);
    }
}

#[test]
fn every_frame_encodes_back_to_its_bytes() {
    for name in FRAMES {
        for prefix in ["json", "binary"] {
            let name = format!("{prefix}-{name}");
            let mut out = Vec::new();
            encode(&read(&name), &mut out).unwrap();
            assert_eq!(Bytes::from(out), golden(&name), "{name}");
        }
    }
}

fn check_send(h: &SendMessageRequestHeader, batch: bool) {
    assert_eq!(h.producer_group, "golden_producer");
    assert_eq!(h.topic, "GoldenTopic");
    assert_eq!(h.default_topic, "TBW102");
    assert_eq!(
        (h.default_topic_queue_nums, h.queue_id, h.sys_flag, h.flag),
        (4, 3, 0, 7)
    );
    assert_eq!(h.born_timestamp, 1_700_000_000_123);
    assert_eq!(
        (h.reconsume_times, h.max_reconsume_times),
        (Some(0), Some(16))
    );
    assert_eq!((h.unit_mode, h.batch), (false, batch));
    assert_eq!(h.broker_name.as_deref(), Some("broker-a"));
    let p = h.properties.as_ref().unwrap().as_bytes();
    assert_eq!(properties::keys(p).collect::<Vec<_>>(), ["k1", "k2"]);
    assert_eq!(properties::get(p, properties::TAGS), Some("TagA"));
    assert_eq!(properties::get(p, "café"), Some("€ 😀"));
}

#[test]
fn sends_in_both_forms() {
    both("send-v1", |cmd| {
        assert_eq!(
            (cmd.code, cmd.opaque, cmd.language),
            (request_code::SEND_MESSAGE, 1, LanguageCode::Java)
        );
        assert_eq!(cmd.body.to_bytes(), "hello v1");
        check_send(
            &SendMessageRequestHeader::decode_for(cmd.code, &cmd.ext).unwrap(),
            false,
        );
    });
    both("send-v2", |cmd| {
        assert_eq!((cmd.code, cmd.opaque), (request_code::SEND_MESSAGE_V2, 2));
        let header = SendMessageRequestHeader::decode_for(cmd.code, &cmd.ext).unwrap();
        check_send(&header, false);
        let mut again = RemotingCommand::request(cmd.code);
        header.encode_v2(&mut again.ext);
        assert_eq!(again.ext, cmd.ext);
    });
    both("send-batch", |cmd| {
        check_send(
            &SendMessageRequestHeader::decode_for(cmd.code, &cmd.ext).unwrap(),
            true,
        );
        let items = batch::decode(cmd.body.to_bytes(), 10).unwrap();
        assert_eq!(items.len(), 3);
        for (i, item) in items.iter().enumerate() {
            assert_eq!(item.flag, i as i32);
            assert_eq!(item.body, format!("batch body {i}"));
            assert_eq!(
                properties::get(&item.properties, properties::KEYS),
                Some(format!("key{i}").as_str())
            );
        }
    });
}

#[test]
fn pulls_and_their_answers() {
    both("pull", |cmd| {
        let h: PullMessageRequestHeader = cmd.header().unwrap();
        assert_eq!(h.queue_offset, 1_234_567_890_123);
        assert_eq!(
            (
                h.queue_id,
                h.max_msg_nums,
                h.sys_flag,
                h.suspend_timeout_millis
            ),
            (2, 32, 6, 15_000)
        );
        assert_eq!(h.subscription.as_deref(), Some("TagA || TagB"));
        assert_eq!(
            (h.max_msg_bytes, h.request_source),
            (Some(i32::MAX), Some(-1))
        );
        assert_eq!(h.proxy_forward_client_id.as_deref(), Some("client@1"));
        assert!(cmd.body.is_empty());
    });
    both("pull-found", |cmd| {
        assert!(cmd.is_response() && !cmd.is_oneway());
        assert_eq!(cmd.remark.as_deref(), Some("FOUND"));
        let h: PullMessageResponseHeader = cmd.header().unwrap();
        assert_eq!(
            (h.next_begin_offset, h.max_offset, h.offset_delta),
            (10, 99, None)
        );
        let body = cmd.body.to_bytes();
        let records: Vec<_> = StoredRecord::all(&body).collect::<Result<_, _>>().unwrap();
        assert_eq!((records.len(), records[0].topic()), (1, "GoldenTopic"));
    });
    both("pop", |cmd| {
        assert_eq!(cmd.code, request_code::POP_MESSAGE);
        let h: PopMessageRequestHeader = cmd.header().unwrap();
        assert_eq!(
            (h.queue_id, h.invisible_time, h.order),
            (-1, 60_000, Some(false))
        );
    });
}

#[test]
fn answers_with_and_without_remark_and_fields() {
    both("send-answer", |cmd| {
        let h: SendMessageResponseHeader = cmd.header().unwrap();
        assert_eq!(
            (h.msg_id.as_str(), h.queue_offset),
            ("0A01020300002A9F0000000000001234", 42)
        );
        assert_eq!(cmd.ext.get(extra::TRACE_ON), Some("true"));
        assert_eq!(cmd.remark, None);
    });
    both("error-answer", |cmd| {
        assert_eq!((cmd.code, cmd.opaque), (1, 7));
        assert_eq!(
            cmd.remark.as_deref(),
            Some("line \"one\"\n\ttab \\ café \u{1}\u{7f}")
        );
        assert!(cmd.ext.is_empty());
    });
    both("bare-answer", |cmd| {
        assert_eq!(
            (cmd.code, cmd.remark.as_deref(), cmd.ext.len()),
            (0, None, 0)
        )
    });
}

#[test]
fn heartbeats_routes_and_oneways() {
    both("heartbeat", |cmd| {
        assert_eq!(
            (cmd.code, cmd.language),
            (request_code::HEART_BEAT, LanguageCode::Go)
        );
        let data: HeartbeatData = json::from_slice(&cmd.body.to_bytes()).unwrap();
        assert_eq!(
            data.consumer_data_set[0].subscription_data_set[0].sub_string,
            "TagA || TagB"
        );
    });
    both("route", |cmd| {
        let h: GetRouteInfoRequestHeader = cmd.header().unwrap();
        assert_eq!(
            (h.topic.as_str(), h.accept_standard_json_only),
            ("GoldenTopic", Some(true))
        );
    });
    both("route-answer", |cmd| {
        let route: TopicRouteData = json::from_slice(&cmd.body.to_bytes()).unwrap();
        assert_eq!(route.broker_datas[0].broker_addrs[&1], "10.0.0.2:10911");
    });
    both("oneway", |cmd| {
        assert!(cmd.is_oneway() && !cmd.is_response())
    });
}

/// Wire names and required fields are those of the Java header classes.
#[test]
fn headers_have_the_fields_of_their_java_classes() {
    let text = include_str!("golden/headers.txt");
    let mut failures = Vec::new();
    let mut check = |java: &str, fields: &[(&str, bool)]| {
        let Some(line) = text.lines().find(|l| l.split(' ').next() == Some(java)) else {
            failures.push(format!("{java}: no such class"));
            return;
        };
        let known: Vec<(&str, bool)> = line
            .split(' ')
            .skip(1)
            .map(|f| (f.split(':').next().unwrap(), f.ends_with('*')))
            .collect();
        for (name, required) in fields {
            match known.iter().find(|(n, _)| n == name) {
                None if *name == "bname" => {}
                None => failures.push(format!("{java}: unknown field {name}")),
                Some((_, java_required)) if *required && !java_required => {
                    failures.push(format!("{java}: {name} is not required"));
                }
                _ => {}
            }
        }
        for (name, required) in known {
            if required && !fields.iter().any(|(n, _)| *n == name) {
                failures.push(format!("{java}: required field {name} is not declared"));
            }
        }
    };
    macro_rules! same { ($($name:ident)*) => { $(check(stringify!($name), $name::FIELDS);)* } }
    same! {
        SendMessageRequestHeader SendMessageResponseHeader ReplyMessageRequestHeader RecallMessageRequestHeader
        RecallMessageResponseHeader PullMessageRequestHeader PullMessageResponseHeader ConsumerSendMsgBackRequestHeader
        QueryConsumerOffsetRequestHeader QueryConsumerOffsetResponseHeader UpdateConsumerOffsetRequestHeader
        SearchOffsetRequestHeader SearchOffsetResponseHeader GetMaxOffsetRequestHeader GetMaxOffsetResponseHeader
        GetMinOffsetRequestHeader GetMinOffsetResponseHeader GetEarliestMsgStoretimeRequestHeader
        GetEarliestMsgStoretimeResponseHeader UnregisterClientRequestHeader GetConsumerListByGroupRequestHeader
        NotifyConsumerIdsChangedRequestHeader EndTransactionRequestHeader CheckTransactionStateRequestHeader
        PopMessageRequestHeader PopMessageResponseHeader AckMessageRequestHeader ChangeInvisibleTimeRequestHeader
        ChangeInvisibleTimeResponseHeader NotificationRequestHeader NotificationResponseHeader PollingInfoRequestHeader
        PollingInfoResponseHeader PeekMessageRequestHeader GetRouteInfoRequestHeader RegisterBrokerRequestHeader
        RegisterBrokerResponseHeader UnRegisterBrokerRequestHeader QueryDataVersionRequestHeader
        QueryDataVersionResponseHeader BrokerHeartbeatRequestHeader GetBrokerMemberGroupRequestHeader
        NotifyMinBrokerIdChangeRequestHeader GetTopicsByClusterRequestHeader DeleteTopicFromNamesrvRequestHeader
        RegisterTopicRequestHeader WipeWritePermOfBrokerRequestHeader WipeWritePermOfBrokerResponseHeader
        AddWritePermOfBrokerRequestHeader AddWritePermOfBrokerResponseHeader PutKVConfigRequestHeader
        GetKVConfigRequestHeader GetKVConfigResponseHeader DeleteKVConfigRequestHeader GetKVListByNamespaceRequestHeader
        QueryMessageRequestHeader QueryMessageResponseHeader ViewMessageRequestHeader CreateTopicRequestHeader
        DeleteTopicRequestHeader GetTopicConfigRequestHeader GetBrokerConfigResponseHeader
        GetSubscriptionGroupConfigRequestHeader DeleteSubscriptionGroupRequestHeader UpdateGroupForbiddenRequestHeader
        ViewBrokerStatsDataRequestHeader QueryConsumeQueueRequestHeader ListUsersRequestHeader ListAclsRequestHeader
        GetTopicStatsInfoRequestHeader GetConsumeStatsRequestHeader GetConsumerConnectionListRequestHeader
        GetProducerConnectionListRequestHeader QueryTopicConsumeByWhoRequestHeader QueryTopicsByConsumerRequestHeader
        QuerySubscriptionByConsumerRequestHeader QueryConsumeTimeSpanRequestHeader ResetOffsetRequestHeader
        GetConsumerStatusRequestHeader GetConsumerRunningInfoRequestHeader ConsumeMessageDirectlyResultRequestHeader
        CloneGroupOffsetRequestHeader
    }
    check(
        "GetConsumeStatsInBrokerHeader",
        GetBrokerConsumeStatsRequestHeader::FIELDS,
    );
    check(
        "QueryCorrectionOffsetHeader",
        QueryCorrectionOffsetRequestHeader::FIELDS,
    );
    check("DeleteAclRequestHeader", AclRequestHeader::FIELDS);
    check("GetUserRequestHeader", UserRequestHeader::FIELDS);
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_decoded_frame_shares_its_body() {
    let frame = golden("json-send-v2").slice(4..);
    let range = frame.as_ptr_range();
    let body: Bytes = decode_frame(frame.clone()).unwrap().body.to_bytes();
    assert!(range.contains(&body.as_ptr()));
}
