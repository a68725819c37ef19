//! The same client against a running broker, by hand:
//! `NAMESRV_ADDR=127.0.0.1:9876 cargo test -p raftmq-client --test real_broker -- --ignored --nocapture`

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raftmq_client::{
    Admin, ClientConfig, ConsumeFrom, ConsumeStatus, Message, Producer, ProducerConfig,
    PullConsumer, PullStatus, PushConfig, PushConsumer,
};
use raftmq_remoting::body::{SubscriptionGroupConfig, TopicConfig};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a running broker"]
async fn everything_against_a_real_broker() {
    let names = std::env::var("NAMESRV_ADDR").unwrap_or_else(|_| "127.0.0.1:9876".into());
    let run = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis();
    let (topic, group) = (format!("RealT{run}"), format!("RealG{run}"));
    let admin = Admin::new(&names).unwrap();
    let info = admin.cluster_info().await.unwrap();
    let cluster = info
        .cluster_addr_table
        .keys()
        .next()
        .expect("a cluster")
        .clone();
    let config = TopicConfig {
        topic_name: topic.clone(),
        read_queue_nums: 4,
        write_queue_nums: 4,
        ..Default::default()
    };
    admin.create_topic(&cluster, &config).await.unwrap();
    let group_config = SubscriptionGroupConfig {
        group_name: group.clone(),
        ..Default::default()
    };
    admin.create_group(&cluster, &group_config).await.unwrap();
    for _ in 0..100 {
        if admin.topic_route(&topic).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let producer = Producer::new(ProducerConfig::new(&names, "RealP")).unwrap();
    let sent = producer
        .send(Message::new(&topic, "first").tags("A").keys("k"))
        .await
        .unwrap();
    println!("{sent:?}");
    let batch = producer
        .send_batch(
            (0..5)
                .map(|i| Message::new(&topic, format!("b{i}")))
                .collect(),
        )
        .await
        .unwrap();
    println!("{batch:?}");
    producer
        .send_oneway(Message::new(&topic, "oneway"))
        .await
        .unwrap();
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
    for i in 0..1000 {
        let tx = tx.clone();
        producer.send_with(Message::new(&topic, format!("m{i}")), move |r| {
            tx.send(r).unwrap()
        });
    }
    for _ in 0..1000 {
        rx.recv().await.unwrap().unwrap();
    }
    let auto = producer
        .send(Message::new(format!("Auto{run}"), "x"))
        .await
        .unwrap();
    println!("{auto:?}");

    let puller = PullConsumer::new(ClientConfig::new(&names), &group).unwrap();
    let queues = puller.queues(&topic).await.unwrap();
    let mut total = 0;
    for queue in &queues {
        let (min, max) = (
            puller.min_offset(queue).await.unwrap(),
            puller.max_offset(queue).await.unwrap(),
        );
        assert_eq!(puller.search_offset(queue, 0).await.unwrap(), min);
        let mut at = min;
        while at < max {
            let r = puller.pull(queue, "*", at, 32, None).await.unwrap();
            assert_eq!(r.status, PullStatus::Found);
            at = r.next_begin_offset;
            total += r.messages.len();
        }
        let end = puller
            .pull(queue, "*", max, 32, Some(Duration::from_millis(500)))
            .await
            .unwrap();
        assert_eq!(end.status, PullStatus::NoNewMessage);
    }
    assert_eq!((queues.len(), total), (4, 1007));
    puller.commit_offset(&queues[0], 3).await.unwrap();
    assert_eq!(
        admin.consumer_offset(&group, &queues[0]).await.unwrap(),
        Some(3)
    );
    admin
        .put_consumer_offset(&group, &queues[0], 0)
        .await
        .unwrap();
    puller.shutdown().await;

    let seen: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let retried: Arc<Mutex<BTreeSet<i32>>> = Arc::default();
    let mut config = PushConfig::new(&names, &group)
        .subscribe(&topic, "*")
        .unwrap();
    config.from = ConsumeFrom::FirstOffset;
    config.client.poll_name_server_interval = Duration::from_secs(1);
    config.rebalance_interval = Duration::from_secs(2);
    let consumer = PushConsumer::start(config, {
        let (seen, retried) = (seen.clone(), retried.clone());
        move |messages| {
            let message = &messages[0];
            let mut status = ConsumeStatus::Success;
            if &message.body[..] == b"first" {
                retried.lock().unwrap().insert(message.reconsume_times);
                if message.reconsume_times == 0 {
                    status = ConsumeStatus::Later;
                }
            }
            seen.lock()
                .unwrap()
                .insert(String::from_utf8(message.body.to_vec()).unwrap());
            async move { status }
        }
    })
    .await
    .unwrap();
    for _ in 0..300 {
        if seen.lock().unwrap().len() == 1007 && retried.lock().unwrap().contains(&1) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        (seen.lock().unwrap().len(), retried.lock().unwrap().clone()),
        (1007, [0, 1].into())
    );
    let master = admin.masters(&cluster).await.unwrap()[0].1.clone();
    let connected = admin.consumer_connection_at(&master, &group).await.unwrap();
    assert_eq!(connected.connection_set[0].client_id, consumer.client_id());
    consumer.shutdown().await;
    let stats = admin
        .consume_stats_at(&master, &group, Some(&topic))
        .await
        .unwrap();
    assert!(
        stats
            .offset_table
            .values()
            .all(|o| o.broker_offset == o.consumer_offset),
        "{stats:?}"
    );
    assert_eq!(
        admin.topic_stats(&topic).await.unwrap().offset_table.len(),
        4
    );
    println!(
        "{:?}",
        admin
            .runtime_info(&master)
            .await
            .unwrap()
            .get("brokerVersionDesc")
    );
    assert!(
        admin
            .broker_config(&master)
            .await
            .unwrap()
            .contains_key("brokerName")
    );
    admin
        .update_broker_config(&master, &[("traceOn", "true")])
        .await
        .unwrap();
    producer.shutdown().await;
    admin.delete_topic(&cluster, &topic).await.unwrap();
    admin.delete_group(&cluster, &group, true).await.unwrap();
    assert!(admin.topic_route(&topic).await.is_err());
}
