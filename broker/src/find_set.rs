//! How an empty replica without a peer list finds its set: the name servers know the brokers of that name, and each of
//! those knows the peer addresses of all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use raftmq_remoting::body::{GetBrokerMemberGroupResponseBody, RaftStatus};
use raftmq_remoting::client::RemotingClient;
use raftmq_remoting::codes::{request, response};
use raftmq_remoting::command::RemotingCommand;
use raftmq_remoting::header::GetBrokerMemberGroupRequestHeader;
use raftmq_remoting::json;

use crate::broker::Broker;

/// Pause between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Brokers asked in a round at most.
const MAX_BROKERS: usize = 32;

/// Looks for the set until this replica belongs to it.
pub async fn run(broker: Arc<Broker>, client: RemotingClient) {
    while broker.replica.role().me.node_id == 0 {
        let mut peers = BTreeSet::new();
        for addr in brokers(&broker, &client).await {
            let request = RemotingCommand::request(request::RAFT_STATUS);
            let body = ask(&client, &addr, request).await;
            let status: Option<RaftStatus> = body.and_then(|b| json::from_slice(&b).ok());
            let members = status.map(|s| s.replicas).unwrap_or_default();
            peers.extend(members.into_iter().map(|r| r.peer_addr));
        }
        if !peers.is_empty() {
            broker.replica.suggest_peers(peers.into_iter().collect());
        }
        tokio::time::sleep(ROUND).await;
    }
}

/// Client addresses of the other brokers of this name.
async fn brokers(broker: &Broker, client: &RemotingClient) -> Vec<String> {
    let config = broker.config();
    let header = GetBrokerMemberGroupRequestHeader {
        cluster_name: config.cluster.clone(),
        broker_name: config.name.clone(),
    };
    let own = broker.store_host.to_string();
    let mut found = BTreeSet::new();
    for name_server in config.name_servers() {
        let request = RemotingCommand::request_with(request::GET_BROKER_MEMBER_GROUP, &header);
        let body = ask(client, &name_server, request).await;
        let group =
            body.and_then(|b| json::from_slice::<GetBrokerMemberGroupResponseBody>(&b).ok());
        found.extend(
            group
                .into_iter()
                .flat_map(|g| g.broker_member_group.broker_addrs.into_values()),
        );
    }
    found
        .into_iter()
        .filter(|addr| *addr != own)
        .take(MAX_BROKERS)
        .collect()
}

async fn ask(
    client: &RemotingClient,
    addr: &str,
    request: RemotingCommand,
) -> Option<bytes::Bytes> {
    let answer = client.invoke(addr, request, ANSWER).await.ok()?;
    (answer.code == response::SUCCESS).then(|| answer.body.to_bytes())
}
