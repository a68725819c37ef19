//! Administrative calls.

mod support;

use raftmq_client::{Admin, ClientError, MessageQueue};
use raftmq_remoting::RemotingCommand;
use raftmq_remoting::body::{SubscriptionGroupConfig, TopicConfig};
use support::{Cluster, Fault};

#[tokio::test]
async fn topics_are_created_and_deleted_everywhere() {
    let cluster = Cluster::start(2).await;
    cluster.topic("T", 4);
    let admin = Admin::new(cluster.names_addr()).unwrap();
    let config = TopicConfig {
        topic_name: "New".into(),
        write_queue_nums: 8,
        attributes: [("message.type".to_owned(), "FIFO".to_owned())].into(),
        ..TopicConfig::default()
    };
    admin.create_topic("C", &config).await.unwrap();
    for i in 0..2 {
        let cmd = &cluster.broker(i).seen(17)[0];
        let get = |k| cmd.ext.get(k).unwrap();
        assert_eq!(
            (
                get("topic"),
                get("writeQueueNums"),
                get("perm"),
                get("order")
            ),
            ("New", "8", "6", "false")
        );
        assert_eq!(
            (get("topicFilterType"), get("attributes")),
            ("SINGLE_TAG", "+message.type=FIFO")
        );
    }
    admin.delete_topic("C", "New").await.unwrap();
    assert_eq!(
        (
            cluster.broker(0).seen(215).len(),
            cluster.broker(1).seen(215).len()
        ),
        (1, 1)
    );
    assert_eq!(*cluster.names.deleted.lock().unwrap(), ["New"]);
    cluster.broker(1).fail([(17, Fault::Code(29))]);
    assert_eq!(
        admin.create_topic("C", &config).await.unwrap_err().code(),
        Some(29)
    );
    assert!(matches!(
        admin.create_topic("X", &config).await,
        Err(ClientError::Invalid(_))
    ));
}

#[tokio::test]
async fn routes_and_lists() {
    let cluster = Cluster::start(2).await;
    cluster.topic("T", 4);
    let admin = Admin::new(cluster.names_addr()).unwrap();
    assert_eq!(admin.topic_route("T").await.unwrap().queue_datas.len(), 2);
    assert!(matches!(
        admin.topic_route("U").await,
        Err(ClientError::NoRoute { .. })
    ));
    assert_eq!(admin.topic_list().await.unwrap(), ["T"]);
    assert_eq!(admin.topics_of_cluster("C").await.unwrap(), ["T"]);
    assert_eq!(
        admin.cluster_info().await.unwrap().broker_addr_table.len(),
        2
    );
    let masters = admin.masters("C").await.unwrap();
    assert_eq!(
        masters[1],
        ("b1".to_owned(), cluster.brokers[1].1.addr.to_string())
    );
    let raw = admin
        .call(&cluster.names_addr(), RemotingCommand::request(319))
        .await
        .unwrap();
    assert_eq!(raw.code, 0);
}

#[tokio::test]
async fn groups_and_offsets() {
    let cluster = Cluster::start(1).await;
    cluster.topic("T", 1);
    cluster.broker(0).put("T", 0, "x", None);
    let admin = Admin::new(cluster.names_addr()).unwrap();
    let queue = MessageQueue::new("T", "b0", 0);
    assert_eq!(admin.consumer_offset("g", &queue).await.unwrap(), None);
    admin.put_consumer_offset("g", &queue, 7).await.unwrap();
    assert_eq!(admin.consumer_offset("g", &queue).await.unwrap(), Some(7));
    assert_eq!(
        (
            admin.min_offset(&queue).await.unwrap(),
            admin.max_offset(&queue).await.unwrap()
        ),
        (0, 1)
    );
    assert_eq!(admin.search_offset(&queue, 2000).await.unwrap(), 1);
    let config = SubscriptionGroupConfig {
        group_name: "g".into(),
        retry_max_times: 3,
        ..Default::default()
    };
    admin.create_group("C", &config).await.unwrap();
    let body = String::from_utf8(cluster.broker(0).seen(200)[0].body.to_bytes().to_vec()).unwrap();
    assert!(
        body.contains(r#""groupName":"g""#) && body.contains(r#""retryMaxTimes":3"#),
        "{body}"
    );
    admin.delete_group("C", "g", true).await.unwrap();
    assert_eq!(
        cluster.broker(0).seen(207)[0].ext.get("cleanOffset"),
        Some("true")
    );
    let unknown = MessageQueue::new("T", "nobody", 0);
    assert!(matches!(
        admin.max_offset(&unknown).await,
        Err(ClientError::NoRoute { .. })
    ));
}

#[tokio::test]
async fn broker_configuration_and_figures() {
    let cluster = Cluster::start(1).await;
    let admin = Admin::new(cluster.names_addr()).unwrap();
    let addr = cluster.brokers[0].1.addr.to_string();
    assert_eq!(
        admin.broker_config(&addr).await.unwrap()["listenPort"],
        "10911"
    );
    assert_eq!(admin.runtime_info(&addr).await.unwrap()["putTps"], "1 2 3");
    admin
        .update_broker_config(&addr, &[("a", "1"), ("b", "x=y")])
        .await
        .unwrap();
    assert_eq!(
        cluster.broker(0).seen(25)[0].body.to_bytes(),
        "a=1\nb=x=y\n"
    );
    for bad in [("", "1"), ("a=b", "1"), ("a", "1\nb=2")] {
        assert!(matches!(
            admin.update_broker_config(&addr, &[bad]).await,
            Err(ClientError::Invalid(_))
        ));
    }
    admin
        .put_kv_config("ORDER_TOPIC_CONFIG", "T", "b0:4")
        .await
        .unwrap();
    admin
        .delete_kv_config("ORDER_TOPIC_CONFIG", "T")
        .await
        .unwrap();
}
