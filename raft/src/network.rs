//! openraft's network: a gRPC channel per purpose and target, so that heartbeats never wait behind entries.
//! Replication is one long bidirectional stream, pipelined: a few requests of at most 1 MiB are under way, then the
//! next is read from the log when a response comes.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::AnyError;
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use parking_lot::RwLock;
use raftmq_proto::raft as pb;
use raftmq_proto::raft::peer_client::PeerClient;
use raftmq_store::state::State;
use tokio::sync::{Semaphore, watch};
use tonic::metadata::MetadataMap;
use tonic::transport::Endpoint;

use crate::ground::{Link, Net, Peer};
use crate::options::Node;
use crate::snapshot::{self, Snapshot, SnapshotFile};
use crate::types::{TypeConfig, Vote, encode_stored};
use crate::wire::{self, Call};

/// Requests under way to one follower.
const WINDOW: usize = 8;
/// A request may hold one entry of the largest size.
pub const MAX_MESSAGE: usize = 32 * 1024 * 1024;
/// HTTP/2 windows: enough for the whole replication window.
const STREAM_WINDOW: u32 = 16 * 1024 * 1024;
/// A commit is told with the next entries. When none come for so long it gets a request of its own: at most so late do
/// followers show a message. Without this every batch would cost two requests to each follower, and two answers.
const COMMIT_WAITS: Duration = Duration::from_millis(2);
/// A replication stream with requests under way and no response for so long is given up and opened anew.
const STALL: Duration = Duration::from_secs(5);
/// A connection that answers no ping for so long is made anew: packets may have been dropped without a word.
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// An endpoint for replica-to-replica calls.
///
/// # Errors
/// An address that is no `host:port`.
pub fn endpoint(
    addr: &str,
    connect_timeout: Duration,
) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(format!("http://{addr}"))?
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW))
}

/// Where the members' peer ports are now. A member that moved is found at its new address by clients that exist already.
#[derive(Default)]
pub struct AddressBook(RwLock<HashMap<u64, String>>);

impl AddressBook {
    /// Notes where a member is.
    pub fn note(&self, node_id: u64, addr: &str) {
        if self
            .0
            .read()
            .get(&node_id)
            .is_none_or(|known| known != addr)
        {
            self.0.write().insert(node_id, addr.to_owned());
        }
    }

    fn get(&self, node_id: u64) -> Option<String> {
        self.0.read().get(&node_id).cloned()
    }
}

/// Makes clients for openraft.
pub struct Network {
    /// The way to the others.
    pub net: Net,
    /// Set, cluster and own node id; the target is filled in.
    pub call: Call,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Where the others are.
    pub book: Arc<AddressBook>,
    /// Index of the last entry of the own log.
    pub appended: watch::Receiver<u64>,
    /// The applied state, for the set's version.
    pub state: Arc<State>,
    /// Own name, for what is said of a peer that does not fit.
    pub name: String,
}

/// One target.
pub struct Client {
    net: Net,
    call: Call,
    target: u64,
    connect_timeout: Duration,
    book: Arc<AddressBook>,
    appended: watch::Receiver<u64>,
    state: Arc<State>,
    name: String,
    /// The target's name.
    target_name: String,
    /// What was logged last of a target that takes nothing.
    refused: Option<String>,
    /// The address and what was made for it.
    client: Option<(String, Peer)>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Node) -> Client {
        self.book.note(target, &node.peer_addr);
        Client {
            net: self.net.clone(),
            call: Call {
                to: target,
                ..self.call.clone()
            },
            target,
            connect_timeout: self.connect_timeout,
            book: self.book.clone(),
            appended: self.appended.clone(),
            state: self.state.clone(),
            name: self.name.clone(),
            target_name: node.name.clone(),
            refused: None,
            client: None,
        }
    }
}

type Error = RPCError<TypeConfig>;

fn unreachable(status: &tonic::Status) -> Error {
    RPCError::Unreachable(Unreachable::new(status))
}

impl Client {
    fn connected(&mut self) -> Result<Peer, tonic::Status> {
        let unusable = |why: String| tonic::Status::unavailable(why);
        let addr = self.book.get(self.target);
        let addr = addr.ok_or_else(|| unusable("no address".to_owned()))?;
        match &self.client {
            Some((known, client)) if *known == addr => Ok(client.clone()),
            _ => {
                let link = match &self.net {
                    Net::Tcp => {
                        let endpoint = endpoint(&addr, self.connect_timeout)
                            .map_err(|e| unusable(format!("{addr}: {e}")))?;
                        Link::Tcp(endpoint.connect_lazy())
                    }
                    Net::Simulated(wire) => Link::Simulated {
                        wire: wire.clone(),
                        to: addr.clone(),
                        patience: None,
                    },
                };
                let client = PeerClient::new(link)
                    .max_decoding_message_size(MAX_MESSAGE)
                    .max_encoding_message_size(MAX_MESSAGE);
                self.client = Some((addr, client.clone()));
                Ok(client)
            }
        }
    }

    /// Whether the target, which has answered with this, may get entries; says so in the log when it does not.
    fn fits(&mut self, answer: Result<&MetadataMap, &tonic::Status>) -> Result<(), tonic::Status> {
        let why = match answer {
            Ok(map) => self.call.about.misfit(
                &self.name,
                (&self.target_name, &Call::told(map)),
                self.state.set_version(),
            ),
            Err(status) if status.code() == tonic::Code::FailedPrecondition => {
                Some(status.message().to_owned())
            }
            Err(_) => return Ok(()),
        };
        if why.is_some() && why != self.refused {
            tracing::error!(
                to = self.target_name,
                why,
                "nothing is sent to a replica that does not fit"
            );
        }
        self.refused.clone_from(&why);
        match why {
            None => Ok(()),
            Some(why) => Err(tonic::Status::failed_precondition(why)),
        }
    }

    fn client(&mut self) -> Result<Peer, Error> {
        self.connected().map_err(|status| unreachable(&status))
    }

    async fn ask(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        pre_vote: bool,
        ttl: Duration,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        let request = pb::VoteRequest {
            vote: Some(wire::vote_to(&rpc.vote)),
            last: rpc.last_log_id.as_ref().map(wire::id_to),
            leadership_transfer: rpc.leadership_transfer,
            pre_vote,
        };
        let mut request = self.call.sign(request).map_err(|s| unreachable(&s))?;
        request.set_timeout(ttl);
        let response = self
            .client()?
            .request_vote(request)
            .await
            .map_err(|s| unreachable(&s))?
            .into_inner();
        Ok(VoteResponse {
            vote: wire::vote_from(response.vote).map_err(|s| unreachable(&s))?,
            vote_granted: response.granted,
            last_log_id: wire::id_from(response.last).map_err(|s| unreachable(&s))?,
        })
    }
}

/// Ends the request half of a stream when the response half is given up: nothing else would.
struct Window(Arc<Semaphore>);

impl Drop for Window {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The input of a replication stream, held back to [`WINDOW`] requests under way and for [`COMMIT_WAITS`].
fn windowed<S>(
    input: S,
    permits: Arc<Semaphore>,
    sent: Arc<AtomicUsize>,
    appended: watch::Receiver<u64>,
) -> impl Stream<Item = pb::AppendRequest>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let state = (input, permits, sent, appended, u64::MAX);
    futures_util::stream::unfold(state, |state| async move {
        let (mut input, permits, sent, mut appended, newest) = state;
        permits.acquire().await.ok()?.forget();
        if newest != u64::MAX {
            // The input is not asked meanwhile: it would answer with the commit alone.
            let more = appended.wait_for(|last| *last > newest);
            let _ = tokio::time::timeout(COMMIT_WAITS, more).await;
            if permits.is_closed() {
                // The next stream has what follows.
                return None;
            }
        }
        let request = input.next().await?;
        let newest = request.entries.last().map_or(u64::MAX, |e| e.log_id.index);
        sent.fetch_add(1, Ordering::AcqRel);
        let state = (input, permits, sent, appended, newest);
        Some((wire::append_to(request), state))
    })
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Error> {
        let previous = rpc.prev_log_id;
        let mut responses = self
            .stream_append(futures_util::stream::iter([rpc]), option)
            .await?;
        match responses.next().await {
            Some(result) => Ok(AppendEntriesResponse::from(result?)),
            None => {
                let text = format!("no response to an append after {previous:?}");
                Err(RPCError::Network(NetworkError::new(&AnyError::error(text))))
            }
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Error>>, Error>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let permits = Arc::new(Semaphore::new(WINDOW));
            let sent = Arc::new(AtomicUsize::new(0));
            // openraft backs off inside this stream: a dead peer must not be dialled before the first request is due.
            let mut input = input;
            let Some(first) = input.next().await else {
                let nothing: BoxStream<'s, _> = Box::pin(futures_util::stream::empty());
                return Ok(nothing);
            };
            let input = futures_util::stream::iter([first]).chain(input);
            let appended = self.appended.clone();
            let requests = windowed(input, permits.clone(), sent.clone(), appended);
            let request = self.call.sign(requests).map_err(|s| unreachable(&s))?;
            let mut client = self.client()?;
            let setup = option.hard_ttl().max(Duration::from_millis(100)) * 5;
            let opened = tokio::time::timeout(setup, client.append(request)).await;
            let opened = opened
                .map_err(|_| unreachable(&tonic::Status::deadline_exceeded("append stream")))?;
            self.fits(opened.as_ref().map(tonic::Response::metadata))
                .map_err(|s| unreachable(&s))?;
            let responses = opened.map_err(|s| unreachable(&s))?.into_inner();

            let state = Some((responses, Window(permits), sent, 0usize));
            let output = futures_util::stream::unfold(state, |state| async move {
                let (mut responses, permits, sent, received) = state?;
                let next = loop {
                    let asked_before = sent.load(Ordering::Acquire);
                    match tokio::time::timeout(STALL, responses.message()).await {
                        Ok(next) => break next,
                        // Quiet because nothing was asked for so long.
                        Err(_) if asked_before == received => {}
                        Err(_) => {
                            break Err(tonic::Status::deadline_exceeded("no response to entries"));
                        }
                    }
                };
                match next.and_then(|m| m.map(wire::result_from).transpose()) {
                    Ok(Some(result)) => {
                        permits.0.add_permits(1);
                        let ended = result.is_err();
                        Some((
                            Ok(result),
                            (!ended).then_some((responses, permits, sent, received + 1)),
                        ))
                    }
                    Ok(None) => None,
                    Err(status) => Some((Err(unreachable(&status)), None)),
                }
            });
            let output: BoxStream<'s, _> = Box::pin(output);
            Ok(output)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        self.ask(rpc, false, option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        self.ask(rpc, true, option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let failed = |status: tonic::Status| StreamingError::Unreachable(Unreachable::new(&status));
        let meta = snapshot.meta;
        let membership_at = *meta.last_membership.log_id();
        let membership =
            membership_at.map(|id| encode_stored(id, meta.last_membership.membership(), None));
        let head = pb::SnapshotChunk {
            vote: Some(wire::vote_to(&vote)),
            last: meta.last_log_id.as_ref().map(wire::id_to),
            membership_at: membership_at.as_ref().map(wire::id_to),
            membership: membership.unwrap_or_default().into(),
            data: bytes::Bytes::new(),
        };
        let chunks = snapshot::chunks(snapshot.snapshot).map(|data| pb::SnapshotChunk {
            data,
            ..Default::default()
        });
        let stream = futures_util::stream::iter([head]).chain(chunks);
        let request = self.call.sign(stream).map_err(failed)?;
        let mut client = self.connected().map_err(failed)?;
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            response = client.install_snapshot(request) => {
                let response = response.map_err(failed)?.into_inner();
                Ok(SnapshotResponse::new(wire::vote_from(response.vote).map_err(failed)?))
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Error> {
        let message = pb::TransferRequest {
            from: Some(wire::vote_to(request.from_leader())),
            to: self.target,
            last: request.last_log_id().map(wire::id_to),
        };
        let mut message = self.call.sign(message).map_err(|s| unreachable(&s))?;
        message.set_timeout(option.hard_ttl());
        let response = self
            .client()?
            .transfer_leader(message)
            .await
            .map_err(|s| unreachable(&s))?
            .into_inner();
        if response.refused.is_empty() {
            return Ok(Ok(()));
        }
        Err(RPCError::Network(NetworkError::new(&AnyError::error(
            response.refused,
        ))))
    }
}
