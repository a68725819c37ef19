//! Single questions to another replica's peer port: a connection for each, with a time limit. What openraft sends goes
//! through [`crate::network`].

use std::time::Duration;

use raftmq_proto::raft as pb;
use raftmq_proto::raft::peer_client::PeerClient;
use tonic::Status;

use crate::ground::{Link, Net, Peer};
use crate::network::{MAX_MESSAGE, endpoint};
use crate::wire::Call;

/// Connects; the answer to each call has to come within `answer`.
///
/// # Errors
/// An address that cannot be used or does not answer.
pub async fn dial(net: &Net, addr: &str, answer: Duration) -> Result<Peer, Status> {
    let unusable = |e: tonic::transport::Error| {
        let source = std::error::Error::source(&e).map(|s| format!(": {s}"));
        Status::unavailable(format!("{addr}: {e}{}", source.unwrap_or_default()))
    };
    let link = match net {
        Net::Tcp => {
            let endpoint = endpoint(addr, answer).map_err(unusable)?.timeout(answer);
            Link::Tcp(endpoint.connect().await.map_err(unusable)?)
        }
        Net::Simulated(wire) => Link::Simulated {
            wire: wire.clone(),
            to: addr.to_owned(),
            patience: Some(answer),
        },
    };
    Ok(PeerClient::new(link).max_decoding_message_size(MAX_MESSAGE))
}

/// How a member stands.
///
/// # Errors
/// It does not answer, or is not that member.
pub async fn standing(
    net: &Net,
    addr: &str,
    to: u64,
    call: &Call,
    answer: Duration,
) -> Result<pb::StandingResponse, Status> {
    let call = Call { to, ..call.clone() };
    let request = call.sign(pb::StandingRequest {})?;
    let answer = dial(net, addr, answer).await?.standing(request).await?;
    Ok(answer.into_inner())
}
