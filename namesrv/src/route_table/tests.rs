use std::time::{Duration, Instant};

use raftmq_remoting::body::{DataVersion, QueueData, RegisterBrokerBody, TopicConfig};
use raftmq_remoting::message::perm;

use super::*;

/// A registration of `name`'s broker `id` at `addr` in the given term, with two topics.
fn broker(name: &str, id: i64, addr: &str, term: i64) -> Registration {
    registration(name, id, addr, term, &["T1", "T2"])
}

fn registration(name: &str, id: i64, addr: &str, term: i64, topics: &[&str]) -> Registration {
    let mut body = RegisterBrokerBody::default();
    let wrapper = &mut body.topic_config_serialize_wrapper;
    wrapper.data_version = DataVersion {
        state_version: term,
        timestamp: 1,
        counter: 1,
    };
    for topic in topics {
        let config = TopicConfig {
            topic_name: (*topic).into(),
            ..TopicConfig::default()
        };
        wrapper.topic_config_table.insert((*topic).into(), config);
    }
    Registration {
        cluster: "C".into(),
        broker_name: name.into(),
        addr: addr.into(),
        broker_id: id,
        ha_addr: format!("ha-{addr}"),
        connection: 1,
        body,
        ..Registration::default()
    }
}

fn with_queues(mut r: Registration, queues: i32) -> Registration {
    for config in r
        .body
        .topic_config_serialize_wrapper
        .topic_config_table
        .values_mut()
    {
        config.write_queue_nums = queues;
    }
    r
}

fn with_counter(mut r: Registration, counter: i64) -> Registration {
    r.body.topic_config_serialize_wrapper.data_version.counter = counter;
    r
}

fn acting(mut r: Registration) -> Registration {
    r.enable_acting_master = Some(true);
    r
}

struct Table {
    table: RouteTable,
    now: Instant,
}

impl Table {
    fn new() -> Self {
        Self {
            table: RouteTable::default(),
            now: Instant::now(),
        }
    }

    fn add(&self, r: Registration) -> Registered {
        let registered = self.table.register(r, self.now).unwrap();
        self.table.state.read().check();
        registered
    }

    fn addrs(&self, topic: &str) -> Vec<(i64, String)> {
        let route = self.table.route(topic, false);
        route.map_or_else(Vec::new, |r| {
            r.broker_datas
                .into_iter()
                .flat_map(|b| b.broker_addrs)
                .collect()
        })
    }

    fn queues(&self, topic: &str) -> QueueData {
        self.table.route(topic, false).unwrap().queue_datas[0].clone()
    }
}

fn pairs(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
    expected
        .iter()
        .map(|(id, addr)| (*id, (*addr).to_owned()))
        .collect()
}

#[test]
fn a_set_shows_master_and_followers() {
    let t = Table::new();
    assert_eq!(t.add(broker("b", 0, "m", 1)).master, None);
    assert_eq!(
        t.add(broker("b", 1, "f", 1)).master,
        Some(("m".into(), "ha-m".into()))
    );
    assert_eq!(t.addrs("T1"), pairs(&[(0, "m"), (1, "f")]));
    assert_eq!(t.queues("T1").write_queue_nums, 16);
    assert!(t.table.route("nope", false).is_none());
}

#[test]
fn an_address_has_one_id() {
    let t = Table::new();
    t.add(broker("b", 1, "a", 1));
    t.add(broker("b", 0, "a", 1));
    assert_eq!(t.addrs("T1"), pairs(&[(0, "a")]));
    t.add(broker("b", 0, "other", 1));
    t.add(broker("b", 2, "a", 1));
    assert_eq!(t.addrs("T1"), pairs(&[(0, "other"), (2, "a")]));
}

#[test]
fn a_newer_master_takes_id_0_at_once() {
    let t = Table::new();
    t.add(broker("b", 0, "old", 3));
    t.add(broker("b", 1, "new", 3));
    assert!(!t.add(with_queues(broker("b", 0, "new", 4), 4)).stale);
    assert_eq!(t.addrs("T1"), pairs(&[(0, "new")]));
    assert_eq!(t.queues("T1").write_queue_nums, 4);
    assert_eq!(
        t.add(broker("b", 1, "old", 4)).master,
        Some(("new".into(), "ha-new".into()))
    );
}

#[test]
fn a_stale_master_changes_nothing_and_is_dropped() {
    let t = Table::new();
    t.add(broker("b", 0, "new", 5));
    t.add(broker("b", 1, "old", 5));
    let registered = t.add(with_queues(
        registration("b", 0, "old", 4, &["T1", "T9"]),
        1,
    ));
    assert_eq!(
        registered,
        Registered {
            stale: true,
            ..Registered::default()
        }
    );
    assert_eq!(t.addrs("T1"), pairs(&[(0, "new")]));
    assert_eq!(t.queues("T1").write_queue_nums, 16);
    assert!(t.table.route("T9", false).is_none());
    assert_eq!(t.table.data_version("b", "old", t.now), None);
    // It comes back as what it is.
    t.add(broker("b", 1, "old", 5));
    assert_eq!(t.addrs("T1"), pairs(&[(0, "new"), (1, "old")]));
}

#[test]
fn two_masters_racing_end_with_the_newer_one() {
    for newer_first in [true, false] {
        let t = Table::new();
        for round in 0..10 {
            let newer = (round % 2 == 0) == newer_first;
            t.add(if newer {
                broker("b", 0, "n", 8)
            } else {
                broker("b", 0, "o", 7)
            });
        }
        assert_eq!(
            t.addrs("T1"),
            pairs(&[(0, "n")]),
            "newer first: {newer_first}"
        );
    }
}

#[test]
fn the_newest_master_wins_among_threads() {
    let t = std::sync::Arc::new(Table::new());
    std::thread::scope(|s| {
        for term in 1..=8 {
            let t = t.clone();
            s.spawn(move || {
                (0..50).for_each(|_| drop(t.add(broker("b", 0, &format!("m{term}"), term))))
            });
        }
    });
    assert_eq!(t.addrs("T1"), pairs(&[(0, "m8")]));
}

#[test]
fn a_master_may_register_again_with_any_version() {
    let t = Table::new();
    t.add(broker("b", 0, "m", 5));
    assert!(!t.add(with_queues(broker("b", 0, "m", 1), 2)).stale);
    assert_eq!(t.queues("T1").write_queue_nums, 2);
}

#[test]
fn when_the_newer_master_is_gone_an_older_one_may_take_id_0() {
    let t = Table::new();
    t.add(broker("b", 0, "new", 5));
    t.table.unregister("b", "new");
    assert!(!t.add(broker("b", 0, "old", 4)).stale);
}

#[test]
fn topics_count_from_the_master_alone() {
    let t = Table::new();
    t.add(registration("b", 1, "f", 1, &["F1", "F2"]));
    assert!(t.table.route("F1", false).is_none());
    t.add(broker("b", 0, "m", 1));
    t.add(registration("b", 1, "f", 2, &["F1", "F2"]));
    assert_eq!(t.table.all_topics().topic_list.len(), 2);
}

#[test]
fn the_prime_slave_of_an_acting_set_gives_topics_without_write() {
    let t = Table::new();
    t.add(acting(broker("b", 1, "f1", 1)));
    t.add(acting(registration("b", 2, "f2", 1, &["G1", "G2"])));
    assert_eq!(t.queues("T1").perm, perm::READ);
    assert!(t.table.route("G1", false).is_none());
    // Asked for without being enabled: topics as they are.
    let mut plain = broker("p", 1, "g", 1);
    plain.enable_acting_master = Some(false);
    plain
        .body
        .topic_config_serialize_wrapper
        .topic_config_table
        .retain(|_, _| false);
    let config = TopicConfig::default();
    for topic in ["P1", "P2"] {
        plain
            .body
            .topic_config_serialize_wrapper
            .topic_config_table
            .insert(topic.into(), config.clone());
    }
    t.add(plain);
    assert_eq!(t.queues("P1").perm, perm::READ | perm::WRITE);
}

#[test]
fn an_acting_master_is_shown_as_id_0_where_supported() {
    let t = Table::new();
    t.add(acting(broker("b", 0, "m", 1)));
    t.add(acting(broker("b", 2, "f", 1)));
    let ids = |acting| {
        t.table.route("T1", acting).unwrap().broker_datas[0]
            .broker_addrs
            .clone()
    };
    assert_eq!(ids(true), [(0, "m".to_owned()), (2, "f".to_owned())].into());
    t.table.unregister("b", "m");
    assert_eq!(
        t.queues("T1").perm,
        perm::READ,
        "a set without master is not writable"
    );
    assert_eq!(ids(true), [(0, "f".to_owned())].into());
    assert_eq!(ids(false), [(2, "f".to_owned())].into());
    // The master is back.
    t.add(acting(broker("b", 0, "m", 2)));
    assert_eq!(t.queues("T1").perm, perm::READ | perm::WRITE);
}

#[test]
fn unchanged_versions_leave_queues_alone_but_add_unknown_topics() {
    let t = Table::new();
    t.add(broker("b", 0, "m", 1));
    t.table.wipe_write_permission("b");
    t.add(with_queues(
        registration("b", 0, "m", 1, &["T1", "T2", "T3"]),
        3,
    ));
    assert_eq!(
        (t.queues("T1").perm, t.queues("T1").write_queue_nums),
        (perm::READ, 16)
    );
    assert_eq!(t.queues("T3").write_queue_nums, 3);
    t.add(with_counter(with_queues(broker("b", 0, "m", 1), 3), 2));
    assert_eq!(
        (t.queues("T1").perm, t.queues("T1").write_queue_nums),
        (perm::READ, 3)
    );
}

/// A new topic, which a consumer makes by coming up, is a new registration: it ended every drain.
#[test]
fn wiped_write_permission_stays_until_it_is_given_back() {
    let t = Table::new();
    t.add(broker("b", 0, "m", 1));
    t.add(broker("b", 1, "f", 1));
    assert_eq!(t.table.wipe_write_permission("b"), 2);
    let new_topic = |term: i64, addr: &str, counter: i64| {
        let r = registration("b", 0, addr, term, &["T1", "T2", "%RETRY%g"]);
        with_counter(r, counter)
    };
    t.add(new_topic(1, "m", 2));
    for topic in ["T1", "T2", "%RETRY%g"] {
        assert_eq!(t.queues(topic).perm, perm::READ, "{topic}");
    }
    // The next master does not bring it back either.
    t.add(new_topic(2, "f", 3));
    assert_eq!(t.queues("T1").perm, perm::READ);
    let queues = QueueData {
        broker_name: "b".into(),
        perm: perm::READ | perm::WRITE,
        ..QueueData::default()
    };
    assert!(t.table.register_topic("N", vec![queues]));
    assert_eq!(t.queues("N").perm, perm::READ);
    t.table.add_write_permission("b");
    t.add(new_topic(2, "f", 4));
    assert_eq!(t.queues("T1").perm, perm::READ | perm::WRITE);
    // Of a set that has left nothing is remembered.
    t.table.wipe_write_permission("b");
    t.table.unregister("b", "m");
    t.table.unregister("b", "f");
    t.add(broker("b", 0, "m", 3));
    assert_eq!(t.queues("T1").perm, perm::READ | perm::WRITE);
}

#[test]
fn a_first_registration_with_one_topic_is_refused() {
    let t = Table::new();
    let one = |id, addr| registration("b", id, addr, 1, &["T1"]);
    assert_eq!(
        t.table.register(one(0, "m"), t.now),
        Err(RegistrationError::SingleTopicFirst)
    );
    assert!(t.table.cluster_info().broker_addr_table.is_empty());
    t.add(broker("b", 0, "m", 1));
    assert_eq!(
        t.table.register(one(1, "f"), t.now),
        Err(RegistrationError::SingleTopicFirst)
    );
    t.add(with_counter(registration("b", 0, "m", 1, &["T7"]), 2));
    assert_eq!(t.addrs("T7"), pairs(&[(0, "m")]));
    // No topic at all is a broker like any other.
    t.add(registration("e", 0, "e", 1, &[]));
    assert!(t.table.cluster_info().broker_addr_table.contains_key("e"));
}

#[test]
fn a_topic_deleted_at_the_broker_stays_unless_told_otherwise() {
    let t = Table::new();
    t.add(broker("b", 0, "m", 1));
    t.add(broker("c", 0, "n", 1));
    t.add(with_counter(registration("b", 0, "m", 1, &["T1", "T3"]), 2));
    assert_eq!(t.addrs("T2"), pairs(&[(0, "m"), (0, "n")]));
    let mut r = with_counter(registration("b", 0, "m", 1, &["T1", "T3"]), 3);
    r.delete_absent_topics = true;
    t.add(r.clone());
    assert_eq!(t.addrs("T2"), pairs(&[(0, "n")]));
    // A follower's table deletes nothing.
    (r.broker_id, r.addr) = (1, "f".into());
    r.body
        .topic_config_serialize_wrapper
        .topic_config_table
        .clear();
    t.add(r);
    assert_eq!(t.addrs("T3"), pairs(&[(0, "m"), (1, "f")]));
}

#[test]
fn the_last_member_takes_the_set_with_it() {
    let t = Table::new();
    t.add(broker("b", 0, "m", 1));
    t.add(broker("b", 1, "f", 1));
    t.add(broker("c", 0, "n", 1));
    t.table.unregister("b", "m");
    assert_eq!(
        t.addrs("T1"),
        pairs(&[(1, "f"), (0, "n")]),
        "a route without master is a route"
    );
    t.table.unregister("b", "unknown");
    t.table.unregister("unknown", "f");
    t.table.unregister("b", "f");
    t.table.state.read().check();
    assert_eq!(t.addrs("T1"), pairs(&[(0, "n")]));
    t.table.unregister("c", "n");
    assert!(t.table.route("T1", false).is_none() && t.table.all_topics().topic_list.is_empty());
    assert_eq!(
        t.table.cluster_info(),
        raftmq_remoting::body::ClusterInfo::default()
    );
}

#[test]
fn a_closed_connection_takes_all_its_brokers() {
    let t = Table::new();
    let at = |mut r: Registration, connection| {
        r.connection = connection;
        r
    };
    t.add(at(broker("b", 0, "m", 1), 7));
    t.add(at(broker("c", 0, "n", 1), 7));
    t.add(at(broker("b", 1, "f", 1), 8));
    t.add(at(broker("c", 0, "n", 1), 9));
    assert!(t.table.connection_closed(1234).is_empty());
    t.table.connection_closed(7);
    t.table.state.read().check();
    assert_eq!(
        t.addrs("T1"),
        pairs(&[(1, "f"), (0, "n")]),
        "a broker that came back on another connection stays"
    );
}

#[test]
fn silence_ends_a_registration() {
    let mut t = Table::new();
    t.add(broker("b", 0, "m", 1));
    let mut quick = broker("b", 1, "f", 1);
    quick.timeout = Some(Duration::from_secs(10));
    t.add(quick);
    let start = t.now;
    let after = |secs| start + Duration::from_secs(secs);
    t.table.evict(after(10));
    assert_eq!(t.addrs("T1").len(), 2);
    assert!(t.table.heartbeat("b", "f", after(9)));
    t.table.evict(after(19));
    assert_eq!(t.addrs("T1").len(), 2);
    t.table.evict(after(20));
    assert_eq!(t.addrs("T1"), pairs(&[(0, "m")]));
    assert!(!t.table.heartbeat("b", "f", after(20)));
    // A version query is a sign of life.
    assert!(t.table.data_version("b", "m", after(100)).is_some());
    t.table.evict(after(220));
    assert_eq!(t.addrs("T1").len(), 1);
    t.now = after(200);
    t.add(broker("b", 0, "m", 1));
    t.table.evict(after(320));
    assert_eq!(t.addrs("T1").len(), 1);
    t.table.evict(after(321));
    assert!(t.addrs("T1").is_empty());
    t.table.state.read().check();
}

#[test]
fn lowest_id_changes_are_told() {
    let t = Table::new();
    let at = |id, addr: &str, connection| Registration {
        connection,
        ..broker("b", id, addr, 1)
    };
    assert_eq!(t.add(at(2, "f", 20)).min_id_change, None);
    let change = t.add(at(0, "m", 10)).min_id_change.unwrap();
    assert_eq!(
        (
            change.min_broker_id,
            change.min_broker_addr.as_str(),
            change.offline_addr
        ),
        (0, "m", None)
    );
    assert_eq!(change.connections, [20]);
    assert_eq!(t.add(at(3, "g", 30)).min_id_change, None);
    assert_eq!(t.table.unregister("b", "g"), None);
    let change = t.table.unregister("b", "m").unwrap();
    assert_eq!(
        (change.min_broker_id, change.offline_addr.as_deref()),
        (2, Some("m"))
    );
    assert_eq!(
        (change.connections, change.ha_addr.as_deref()),
        (vec![20], Some("ha-m"))
    );
    assert_eq!(t.table.unregister("b", "f"), None);
}

#[test]
fn topics_are_edited_by_hand() {
    let t = Table::new();
    t.add(broker("b", 0, "m", 1));
    t.add(Registration {
        cluster: "D".into(),
        ..broker("c", 0, "n", 1)
    });
    assert_eq!(t.table.wipe_write_permission("b"), 2);
    assert_eq!(t.table.wipe_write_permission("unknown"), 0);
    assert_eq!(t.queues("T1").perm, perm::READ);
    assert_eq!(t.table.add_write_permission("b"), 2);
    t.table.delete_topic("T1", Some("X"));
    assert_eq!(t.addrs("T1").len(), 2);
    t.table.delete_topic("T1", Some("D"));
    assert_eq!(t.addrs("T1"), pairs(&[(0, "m")]));
    t.table.delete_topic("T1", None);
    t.table.delete_topic("T1", None);
    assert!(t.addrs("T1").is_empty());
    let queues = |broker: &str| QueueData {
        broker_name: broker.into(),
        perm: 6,
        ..QueueData::default()
    };
    assert!(t.table.register_topic("N", vec![queues("b"), queues("zz")]));
    assert!(t.table.register_topic("N", vec![queues("c")]));
    assert!(t.table.register_topic("Z", vec![queues("zz")]));
    assert_eq!(t.addrs("N").len(), 2);
    assert!(t.table.route("Z", false).is_none());
    t.table.state.read().check();
}

#[test]
fn lists_follow_the_table() {
    let t = Table::new();
    let mut r = registration("b", 0, "m", 1, &["U", "S", "US", "N"]);
    for (topic, flag) in [("U", 1), ("S", 2), ("US", 3)] {
        let table = &mut r.body.topic_config_serialize_wrapper.topic_config_table;
        table.get_mut(topic).unwrap().topic_sys_flag = flag;
    }
    r.body.filter_server_list = vec!["filter:1".into()];
    r.zone = Some("z".into());
    t.add(r);
    t.add(Registration {
        cluster: "D".into(),
        ..broker("c", 1, "n", 1)
    });
    let names = |list: raftmq_remoting::body::TopicList| {
        list.topic_list.into_iter().collect::<Vec<_>>().join(",")
    };
    assert_eq!(names(t.table.unit_topics(UnitTopics::Unit)), "U,US");
    assert_eq!(names(t.table.unit_topics(UnitTopics::Subscribed)), "S,US");
    assert_eq!(
        names(t.table.unit_topics(UnitTopics::SubscribedNotUnit)),
        "S"
    );
    assert_eq!(names(t.table.topics_of_cluster("C")), "N,S,U,US");
    assert_eq!(names(t.table.topics_of_cluster("D")), "");
    assert_eq!(t.table.system_topics().broker_addr.as_deref(), Some("m"));
    assert_eq!(names(t.table.system_topics()), "C,D,b,c");
    assert_eq!(
        t.table.member_group("C", "b").broker_addrs,
        [(0, "m".to_owned())].into()
    );
    assert!(t.table.member_group("D", "b").broker_addrs.is_empty());
    assert!(t.table.member_group("C", "x").broker_addrs.is_empty());
    let route = t.table.route("U", false).unwrap();
    assert_eq!(route.filter_server_table["m"], ["filter:1"]);
    assert_eq!(route.broker_datas[0].zone_name.as_deref(), Some("z"));
}

#[test]
fn blank_names_are_refused() {
    let t = Table::new();
    for r in [
        broker("", 0, "m", 1),
        broker("b", 0, " ", 1),
        Registration {
            cluster: "".into(),
            ..broker("b", 0, "m", 1)
        },
    ] {
        assert!(matches!(
            t.table.register(r, t.now),
            Err(RegistrationError::Blank(_))
        ));
    }
    t.table.state.read().check();
}

mod random {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Register {
            name: usize,
            id: i64,
            addr: usize,
            term: i64,
            topics: usize,
            acting: Option<bool>,
            delete: bool,
        },
        Unregister {
            name: usize,
            addr: usize,
        },
        Close(u64),
        Wait(u64),
        Delete {
            topic: usize,
            cluster: bool,
        },
        AddTopic {
            topic: usize,
            name: usize,
        },
    }

    const NAMES: [&str; 3] = ["a", "b", "c"];
    const ADDRS: [&str; 5] = ["1", "2", "3", "4", "5"];
    const TOPICS: [&str; 4] = ["T1", "T2", "T3", "T4"];

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..3usize, 0..4i64, 0..5usize, 0..4i64, 0..16usize, any::<Option<bool>>(), any::<bool>()).prop_map(
                |(name, id, addr, term, topics, acting, delete)| Step::Register { name, id, addr, term, topics, acting, delete }
            ),
            2 => (0..3usize, 0..5usize).prop_map(|(name, addr)| Step::Unregister { name, addr }),
            1 => (0..5u64).prop_map(Step::Close),
            1 => (0..100u64).prop_map(Step::Wait),
            1 => (0..4usize, any::<bool>()).prop_map(|(topic, cluster)| Step::Delete { topic, cluster }),
            1 => (0..4usize, 0..3usize).prop_map(|(topic, name)| Step::AddTopic { topic, name }),
        ]
    }

    proptest! {
        #[test]
        fn any_sequence_keeps_the_table_consistent(steps in proptest::collection::vec(steps(), 0..60)) {
            let mut t = Table::new();
            for step in steps {
                match step {
                    Step::Register { name, id, addr, term, topics, acting, delete } => {
                        let topics: Vec<&str> = (0..4).filter(|i| topics >> i & 1 == 1).map(|i| TOPICS[i]).collect();
                        let mut r = registration(NAMES[name], id, ADDRS[addr], term, &topics);
                        (r.enable_acting_master, r.delete_absent_topics, r.connection) = (acting, delete, addr as u64);
                        let held = t.table.member_group("C", NAMES[name]).broker_addrs.get(&0).cloned();
                        let held_term = held.as_ref().and_then(|a| t.table.data_version(NAMES[name], a, t.now));
                        let taken = t.table.register(r, t.now);
                        let now_held = t.table.member_group("C", NAMES[name]).broker_addrs.get(&0).cloned();
                        if let (Some(held), Some(version)) = (held, held_term)
                            && held != ADDRS[addr]
                        {
                            let takes_over = id == 0 && taken.is_ok() && term >= version.state_version;
                            let expected = if takes_over { ADDRS[addr] } else { held.as_str() };
                            prop_assert_eq!(now_held.as_deref(), Some(expected));
                        }
                    }
                    Step::Unregister { name, addr } => drop(t.table.unregister(NAMES[name], ADDRS[addr])),
                    Step::Close(connection) => drop(t.table.connection_closed(connection)),
                    Step::Wait(secs) => {
                        t.now += Duration::from_secs(secs);
                        t.table.evict(t.now);
                    }
                    Step::Delete { topic, cluster } => t.table.delete_topic(TOPICS[topic], cluster.then_some("C")),
                    Step::AddTopic { topic, name } => {
                        let queues = QueueData { broker_name: NAMES[name].into(), ..QueueData::default() };
                        t.table.register_topic(TOPICS[topic], vec![queues]);
                    }
                }
                t.table.state.read().check();
            }
        }
    }
}

#[test]
fn names_that_would_be_kept_have_a_limit() {
    let t = Table::new();
    let long = "x".repeat(2000);
    let refused = |r: Registration| t.table.register(r, t.now).err();
    let topic = Some(RegistrationError::TooLong("a topic"));
    assert_eq!(refused(registration("b", 0, "m", 1, &["T", &long])), topic);
    let name = Some(RegistrationError::TooLong("the broker name"));
    assert_eq!(refused(broker(&long, 0, "m", 1)), name);
    assert_eq!(
        refused(broker("b", 0, &long, 1)),
        Some(RegistrationError::TooLong("the address"))
    );
    let mut many = broker("b", 0, "m", 1);
    many.body.filter_server_list = vec!["a:1".to_owned(); 1000];
    assert_eq!(refused(many), Some(RegistrationError::TooManyFilterServers));
    assert!(t.table.state.read().sets.is_empty());
}
