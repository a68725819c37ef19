//! `mqadmin` as a process against a name server and a broker set that exist in this test alone.

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use raftmq_remoting::body::{BrokerData, ClusterInfo, KVTable, RaftReplica, RaftRole, RaftStatus};
use raftmq_remoting::header::{
    RaftAddReplicaRequestHeader, RaftRemoveReplicaRequestHeader, RaftTransferLeaderRequestHeader,
};
use raftmq_remoting::{
    Handler, RemotingCommand, Request, Server, ServerOptions, json, request_code as code,
};

/// A port of the discard range where nothing listens.
const DEAD: &str = "127.0.0.1:9";

/// Three voters n0 to n2, n0 the leader, and the learner n3, all of them behind one address.
struct FakeSet(Mutex<RaftStatus>);

impl FakeSet {
    fn new() -> Self {
        let replica = |node_id| RaftReplica {
            node_id,
            name: format!("n{}", node_id - 1),
            reachable: true,
            voter: node_id <= 3,
            role: match node_id {
                1 => RaftRole::Leader,
                4 => RaftRole::Learner,
                _ => RaftRole::Follower,
            },
            ..Default::default()
        };
        Self(Mutex::new(RaftStatus {
            set: "broker-a".into(),
            cluster: "C".into(),
            leader_id: 1,
            leader_name: "n0".into(),
            answered_by: "n0".into(),
            voters: vec![1, 2, 3],
            replicas: (1..=4).map(replica).collect(),
            ..Default::default()
        }))
    }

    fn answer(&self, cmd: &RemotingCommand) -> Result<RemotingCommand, String> {
        let mut status = self.0.lock().unwrap();
        let id_of = |status: &RaftStatus, name: &str| -> Result<u64, String> {
            let mut replicas = status.replicas.iter();
            let found = replicas.find(|r| r.name == name || r.node_id.to_string() == name);
            found.map(|r| r.node_id).ok_or(format!("no replica {name}"))
        };
        match cmd.code {
            code::GET_BROKER_RUNTIME_INFO => {
                let table = BTreeMap::from([("brokerVersionDesc".to_owned(), "V5_3_3".to_owned())]);
                let body = json::to_bytes(&KVTable { table });
                return Ok(RemotingCommand::response(0).with_body(body));
            }
            code::RAFT_STATUS => {}
            code::RAFT_TRANSFER_LEADER => {
                let header: RaftTransferLeaderRequestHeader = cmd.header().unwrap();
                let name = match &header.replica[..] {
                    "" => "n2",
                    name => name,
                };
                status.leader_id = id_of(&status, name)?;
                status.leader_name = name.to_owned();
                status.answered_by = name.to_owned();
            }
            code::RAFT_ADD_REPLICA => {
                let header: RaftAddReplicaRequestHeader = cmd.header().unwrap();
                let id = id_of(&status, &header.replica)?;
                status.voters.push(id);
            }
            code::RAFT_REMOVE_REPLICA => {
                let header: RaftRemoveReplicaRequestHeader = cmd.header().unwrap();
                let id = id_of(&status, &header.replica)?;
                if !header.force {
                    return Err(format!("replica {id} is alive"));
                }
                status.voters.retain(|voter| *voter != id);
                status.replicas.retain(|r| r.node_id != id);
            }
            other => return Err(format!("request {other}")),
        }
        Ok(RemotingCommand::response(0).with_body(json::to_bytes(&*status)))
    }
}

impl Handler for FakeSet {
    fn handle(&self, request: Request) {
        let answer = self.answer(&request.cmd);
        request.reply(answer.unwrap_or_else(|why| RemotingCommand::response(1).with_remark(why)));
    }
}

/// Answers GET_BROKER_CLUSTER_INFO.
struct FakeNames(ClusterInfo);

impl Handler for FakeNames {
    fn handle(&self, request: Request) {
        assert_eq!(request.cmd.code, code::GET_BROKER_CLUSTER_INFO);
        request.reply(RemotingCommand::response(0).with_body(json::to_bytes(&self.0)));
    }
}

async fn serve(handler: impl Handler) -> Server {
    let options = ServerOptions::new("127.0.0.1:0".parse().unwrap());
    Server::bind(options, Arc::new(handler)).await.unwrap()
}

/// A cluster whose set `broker-a` has a dead address before the live one, and `broker-b` dead ones only.
struct Fake {
    names: Server,
    set: Server,
}

impl Fake {
    async fn start() -> Self {
        let set = serve(FakeSet::new()).await;
        let mut info = ClusterInfo::default();
        for (name, addrs) in [
            (
                "broker-a",
                vec![DEAD.to_owned(), set.local_addr().to_string()],
            ),
            ("broker-b", vec![DEAD.to_owned()]),
        ] {
            let data = BrokerData {
                broker_name: name.into(),
                cluster: "C".into(),
                broker_addrs: (0..).zip(addrs).collect(),
                ..Default::default()
            };
            info.broker_addr_table.insert(name.into(), data);
            let sets = info.cluster_addr_table.entry("C".into()).or_default();
            sets.insert(name.into());
        }
        Self {
            names: serve(FakeNames(info)).await,
            set,
        }
    }

    fn run(&self, args: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_mqadmin"))
            .args(args.split_whitespace())
            .env("NAMESRV_ADDR", self.names.local_addr().to_string())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Exit status, stdout, stderr.
    fn told(&self, args: &str) -> (i32, String, String) {
        let out = self.run(args);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            out.status.code().unwrap(),
            text(out.stdout),
            text(out.stderr),
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_comes_from_the_first_address_that_answers() {
    let fake = Fake::start().await;
    let (code, out, err) = fake.told("raftStatus -b broker-a");
    assert_eq!((code, &err[..]), (0, ""));
    assert_eq!(out.lines().count(), 5, "{out}");
    assert!(out.contains("broker-a    1  n0     leader"), "{out}");

    let (code, out, _) = fake.told("raftStatus --json -b broker-a");
    let status: RaftStatus = json::from_slice(out.as_bytes()).unwrap();
    assert_eq!((code, &status.leader_name[..]), (0, "n0"));

    let (code, out, err) = fake.told("raftStatus --json -c C");
    let sets: Vec<RaftStatus> = json::from_slice(out.as_bytes()).unwrap();
    assert_eq!((code, sets.len(), &sets[0]), (1, 1, &status));
    assert!(
        err.starts_with("mqadmin: broker-b: no replica answers (127.0.0.1:9: "),
        "{err}"
    );

    let direct = format!("raftStatus -a {} -n {DEAD}", fake.set.local_addr());
    assert_eq!(fake.told(&direct).0, 0);
    let (code, _, err) = fake.told("raftStatus -c D");
    assert_eq!((code, &err[..]), (1, "mqadmin: no cluster D; there is C\n"));
    assert_eq!(fake.told(&format!("raftStatus -n {DEAD}")).0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_changed() {
    let fake = Fake::start().await;
    let (code, out, _) = fake.told("transferLeader -b broker-a -r n1");
    assert_eq!((code, out.lines().next()), (0, Some("n1 leads broker-a.")));
    let (code, out, _) = fake.told("transferLeader -b broker-a");
    assert_eq!((code, out.lines().next()), (0, Some("n2 leads broker-a.")));
    let (code, out, err) = fake.told("transferLeader -b broker-a -r n9");
    assert_eq!((code, &out[..]), (1, ""));
    assert!(err.ends_with("no replica n9\n"), "{err}");
    let (code, _, err) = fake.told("transferLeader -b broker-b");
    assert_eq!(code, 1);
    assert!(err.starts_with("mqadmin: nothing was changed: "), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_changed_after_a_yes() {
    let fake = Fake::start().await;
    let (code, _, err) = fake.told("addReplica -b broker-a -r n3");
    assert_eq!(code, 1);
    assert!(
        err.contains("4 voters survive no more failures than 3. There is no terminal"),
        "{err}"
    );
    let (code, out, _) = fake.told("addReplica -b broker-a -r 4 -y");
    assert_eq!(
        (code, out.lines().next()),
        (0, Some("n3 is a voter of broker-a."))
    );
    assert!(out.contains("Warning: broker-a: 4 voters survive"), "{out}");

    let (code, _, err) = fake.told("removeReplica -b broker-a -r n3");
    assert_eq!(code, 1);
    assert!(
        err.contains("It is alive and 1 of 4 voters; 3 voters remain, one of them may fail."),
        "{err}"
    );
    let (code, _, err) = fake.told("removeReplica -b broker-a -r n3 -y");
    assert_eq!(code, 1);
    assert!(err.ends_with("replica 4 is alive\n"), "asked by id: {err}");
    let (code, out, _) = fake.told("removeReplica -b broker-a -r n3 -y --force");
    assert_eq!(
        (code, out.lines().next()),
        (0, Some("n3 is removed from broker-a."))
    );
    assert!(!out.contains("Warning"), "{out}");
    assert_eq!(fake.told("removeReplica -b broker-a -r n3 -y").0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_are_listed_though_some_are_dead() {
    let fake = Fake::start().await;
    let (code, out, err) = fake.told("clusterList -c C");
    assert_eq!(
        (code, out.lines().count(), err.lines().count()),
        (0, 4, 2),
        "{err}"
    );
    assert_eq!(out.matches("V5_3_3").count(), 1);
    assert_eq!(fake.told("clusterList -m").1.lines().count(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_usage_is_2_and_what_only_java_has_is_1() {
    let fake = Fake::start().await;
    for wrong in [
        "",
        "raftStatsu",
        "raftStatus -b a -c b",
        "raftStatus -i 0",
        "removeReplica -b broker-a",
        "addReplica -r n3",
        "clusterList -n nonsense",
    ] {
        assert_eq!(fake.told(wrong).0, 2, "{wrong}");
    }
    for java in ["topicList -n x:1", "help topicList"] {
        let (code, _, err) = fake.told(java);
        assert_eq!(code, 1, "{java}");
        assert_eq!(
            err,
            "mqadmin: topicList is not available yet: use the Java mqadmin\n"
        );
    }
    for help in ["help", "help removeReplica", "raftStatus -h"] {
        assert_eq!(fake.told(help).0, 0, "{help}");
    }
}
