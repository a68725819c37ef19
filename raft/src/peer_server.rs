//! The peer port: what the other replicas ask of this one. Up from the first moment, so that a set can be founded;
//! Raft calls are refused until this directory belongs to a set.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use openraft::raft::{TransferLeaderRequest, VoteRequest};
use parking_lot::Mutex;
use raftmq_proto::raft as pb;
use raftmq_proto::raft::peer_server::Peer;
use raftmq_store::commitlog::CommitLog;
use raftmq_store::snapshots::Snapshots;
use raftmq_store::vfs::FileSystem;
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::about::About;
use crate::clock;
use crate::ground::Ground;
use crate::identity::{Belongs, Identity};
use crate::membership;
use crate::quarantine::Guard;
use crate::replica::Inner;
use crate::snapshot::{Incoming, Snapshot};
use crate::status::own_standing;
use crate::types::{Meta, Raft, TypeConfig, decode_stored};
use crate::wire::{self, Call};

/// What the peer port and the founding share.
pub struct PeerState {
    /// What this replica stands on.
    pub ground: Ground,
    /// Store directory, where the identity lies.
    pub dir: PathBuf,
    /// Own name in the set.
    pub name: String,
    /// `host:port` for clients.
    pub client_addr: String,
    /// Who this directory is.
    pub identity: Mutex<Identity>,
    /// The replica this is a part of.
    pub owner: OnceLock<Weak<Inner>>,
    /// The Raft core and how it is addressed, once there is one.
    pub core: OnceLock<(Raft, Call)>,
    /// Votes are refused before this moment: a lease may be running that this replica granted before its restart.
    pub no_votes_before: OnceLock<Instant>,
    /// Whether this replica may vote and lead.
    pub guard: Arc<Guard>,
    /// The log, for replicas that repair theirs.
    pub log: CommitLog,
    /// Where snapshots arrive.
    pub snapshots: Arc<Snapshots>,
    /// What this replica says of itself.
    pub about: Arc<About>,
    /// Callers that do not fit, by node id, and what was logged of them.
    pub misfits: Mutex<BTreeMap<u64, String>>,
    /// Slots of transfers that are received.
    pub receiving: Semaphore,
    /// Woken when the identity has changed.
    pub founded: tokio::sync::Notify,
}

/// Bytes of log that another replica gets at once for a repair.
const MAX_REPAIR: usize = 4 * 1024 * 1024;
/// Snapshots that are received at once: a second one while a leader that is gone still holds the first.
const MAX_RECEIVING: usize = 2;
/// Longest wait for a piece of a snapshot.
const NEXT_CHUNK: Duration = Duration::from_secs(30);
/// Members of a set at its founding, and bytes of a name or an id, that are taken from a peer.
const MAX_FOUNDERS: usize = 15;
const MAX_TEXT: usize = 255;
/// Callers that do not fit, of which is remembered that they were logged.
const MAX_MISFITS: usize = 64;

/// Slots of [`PeerState::receiving`].
pub fn receiving_slots() -> Semaphore {
    Semaphore::new(MAX_RECEIVING)
}

/// The service.
#[derive(Clone)]
pub struct PeerService(pub Arc<PeerState>);

impl PeerService {
    /// For calls that are served before there is a core: two damaged replicas may have to help each other.
    fn check_member<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let identity = self.0.identity.lock();
        let Some(belongs) = &identity.membership else {
            return Err(Status::unavailable("this replica belongs to no set yet"));
        };
        let call = Call {
            set: identity.set.clone(),
            cluster_id: belongs.cluster_id.clone(),
            from: belongs.node_id,
            to: belongs.node_id,
            about: self.0.about.clone(),
        };
        drop(identity);
        call.check(request.metadata())?;
        self.check_fit(request.metadata())
    }

    /// Refuses a caller whose log or program is not for this set.
    fn check_fit(&self, map: &MetadataMap) -> Result<(), Status> {
        let (owner, caller) = (self.owner()?, wire::caller(map));
        let role = owner.role.borrow().clone();
        let known = role.members.iter().find(|m| m.node_id == caller);
        let name = known.map_or_else(|| format!("replica {caller}"), |m| m.name.clone());
        let misfit = self.0.about.misfit(
            &role.me.name,
            (&name, &Call::told(map)),
            owner.store.state.set_version(),
        );
        let mut misfits = self.0.misfits.lock();
        let Some(why) = misfit else {
            misfits.remove(&caller);
            return Ok(());
        };
        if misfits.get(&caller) != Some(&why) && misfits.len() < MAX_MISFITS {
            tracing::error!(why, "a replica that does not fit is refused");
            misfits.insert(caller, why.clone());
        }
        Err(Status::failed_precondition(why))
    }

    fn owner(&self) -> Result<Arc<Inner>, Status> {
        let owner = self.0.owner.get().and_then(Weak::upgrade);
        owner.ok_or_else(|| Status::unavailable("this replica starts or ends"))
    }

    /// The core, for a member that fits.
    fn core<T>(&self, request: &Request<T>) -> Result<&Raft, Status> {
        let (raft, _) = self.any_core(request)?;
        self.check_fit(request.metadata())?;
        Ok(raft)
    }

    /// The core, for any member.
    fn any_core<T>(&self, request: &Request<T>) -> Result<&(Raft, Call), Status> {
        let Some(core) = self.0.core.get() else {
            return Err(Status::unavailable(
                "this replica does not belong to a set yet",
            ));
        };
        core.1.check(request.metadata())?;
        Ok(core)
    }
}

fn fatal(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

type AppendStream = Pin<Box<dyn Stream<Item = Result<pb::AppendResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Peer for PeerService {
    type AppendStream = AppendStream;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<AppendStream>, Status> {
        let raft = self.core(&request)?.clone();
        let input = request.into_inner();
        let guard = self.0.guard.clone();
        // The stream ends at the first thing that is damaged; the leader opens another.
        let state = (input, guard);
        let requests = futures_util::stream::unfold(state, |(mut input, guard)| async move {
            match input
                .message()
                .await
                .and_then(|item| item.map(wire::append_from).transpose())
            {
                Ok(request) => request.map(|request| {
                    guard.leader_commits(&request.vote, request.leader_commit.as_ref());
                    (request, (input, guard))
                }),
                Err(status) => {
                    tracing::debug!(%status, "a replication stream ends");
                    None
                }
            }
        });
        let responses = raft.stream_append(requests);
        let output = responses.map(|result| match result {
            Ok(result) => Ok(wire::result_to(result)),
            Err(error) => Err(fatal(error)),
        });
        let mut response: Response<AppendStream> = Response::new(Box::pin(output));
        if let Some((_, call)) = self.0.core.get() {
            call.tell(response.metadata_mut());
        }
        Ok(response)
    }

    async fn request_vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteResponse>, Status> {
        let raft = self.core(&request)?;
        if self
            .0
            .no_votes_before
            .get()
            .is_some_and(|at| clock::now() < *at)
        {
            return Err(Status::unavailable(
                "restarted a moment ago: a lease granted before may still run",
            ));
        }
        let request = request.into_inner();
        let last = request.last.as_ref().map(|id| (id.term, id.index));
        self.0
            .guard
            .may_vote(last)
            .map_err(Status::failed_precondition)?;
        let mut rpc = VoteRequest::<TypeConfig>::new(
            wire::vote_from(request.vote)?,
            wire::id_from(request.last)?,
        );
        rpc.leadership_transfer = request.leadership_transfer;
        let answer = if request.pre_vote {
            raft.pre_vote(rpc).await
        } else {
            raft.vote(rpc).await
        };
        let answer = answer.map_err(fatal)?;
        Ok(Response::new(pb::VoteResponse {
            vote: Some(wire::vote_to(&answer.vote)),
            granted: answer.vote_granted,
            last: answer.last_log_id.as_ref().map(wire::id_to),
        }))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferRequest>,
    ) -> Result<Response<pb::TransferResponse>, Status> {
        let raft = self.core(&request)?;
        if let Some(reason) = self.0.guard.hindrance() {
            return Ok(Response::new(pb::TransferResponse { refused: reason }));
        }
        let request = request.into_inner();
        let request = TransferLeaderRequest::new(
            wire::vote_from(request.from)?,
            request.to,
            wire::id_from(request.last)?,
        );
        let refused = match raft.handle_transfer_leader(request).await.map_err(fatal)? {
            Ok(()) => String::new(),
            Err(refused) => refused.to_string(),
        };
        Ok(Response::new(pb::TransferResponse { refused }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        let raft = self.core(&request)?.clone();
        let mut input = request.into_inner();
        let head = input
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("an empty snapshot"))?;
        let last = wire::id_from(head.last)?
            .ok_or_else(|| Status::invalid_argument("a snapshot of nothing"))?;
        let disk = |e: std::io::Error| Status::resource_exhausted(e.to_string());
        let vote = wire::vote_from(head.vote)?;
        let promised = raft.with_raft_state(|state| *state.vote_ref());
        let promised = promised.await.map_err(fatal)?;
        let valid = vote
            .partial_cmp(&promised)
            .is_some_and(std::cmp::Ordering::is_ge);
        if !valid {
            // Of a leader that is deposed: it hears so before it has sent all of it.
            return Ok(Response::new(pb::SnapshotResponse {
                vote: Some(wire::vote_to(&promised)),
            }));
        }
        let busy = |_| Status::resource_exhausted("other snapshots are being received");
        let _slot = self.0.receiving.try_acquire().map_err(busy)?;
        let mut incoming = Incoming::create(
            self.0.ground.env.fs.clone(),
            self.0
                .snapshots
                .incoming_path(uuid::Uuid::new_v4().as_u64_pair().0),
            &self.0.dir,
        )
        .map_err(disk)?;
        let silent = |_| Status::deadline_exceeded("no more of the snapshot comes");
        while let Some(chunk) = tokio::time::timeout(NEXT_CHUNK, input.message())
            .await
            .map_err(silent)??
        {
            incoming = incoming.write(chunk.data).await.map_err(disk)?;
        }
        let file = incoming.finish().await.map_err(disk)?;
        let last_membership = match head.membership_at {
            Some(_) => {
                decode_stored(&head.membership).map_err(|e| Status::data_loss(e.to_string()))?
            }
            None => Default::default(),
        };
        // Checked before openraft is told: a damaged transfer is the sender's to repeat, not a reason to stop.
        check_snapshot(self.0.ground.env.fs.clone(), &file.path, last.index).await?;
        let snapshot = Snapshot {
            meta: Meta {
                last_log_id: Some(last),
                last_membership,
            },
            snapshot: file,
        };
        let answer = raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(fatal)?;
        Ok(Response::new(pb::SnapshotResponse {
            vote: Some(wire::vote_to(&answer.vote)),
        }))
    }

    async fn read_log(
        &self,
        request: Request<pb::ReadLogRequest>,
    ) -> Result<Response<pb::ReadLogResponse>, Status> {
        self.check_member(&request)?;
        let request = request.into_inner();
        let log = self.0.log.clone();
        let most = (request.max_bytes as usize).min(MAX_REPAIR);
        let read = crate::blocking::run(move || log.read_range(request.position, most));
        let entries = read
            .await
            .map_err(|e| Status::internal(e.to_string()))?
            .map_err(|e| Status::not_found(e.to_string()))?;
        Ok(Response::new(pb::ReadLogResponse {
            entries: entries.into_iter().map(|e| e.bytes).collect(),
        }))
    }

    async fn standing(
        &self,
        request: Request<pb::StandingRequest>,
    ) -> Result<Response<pb::StandingResponse>, Status> {
        let (raft, _) = self.any_core(&request)?;
        let caller = wire::caller(request.metadata());
        let owner = self.owner()?;
        Ok(Response::new(own_standing(&owner, raft, caller)))
    }

    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinResponse>, Status> {
        let (inner, request) = (self.owner()?, request.into_inner());
        // To its end, even if the caller goes away: a change of the membership under way is nothing to drop.
        let joined = tokio::spawn(async move { membership::join(&inner, request).await });
        let joined = joined.await.map_err(fatal)?;
        joined.map(Response::new)
    }

    async fn hello(
        &self,
        request: Request<pb::HelloRequest>,
    ) -> Result<Response<pb::HelloResponse>, Status> {
        let request = request.into_inner();
        let identity = self.0.identity.lock().clone();
        if request.set != identity.set {
            return Err(Status::permission_denied(format!(
                "this is the set {}, not {}",
                identity.set, request.set
            )));
        }
        Ok(Response::new(pb::HelloResponse {
            name: self.0.name.clone(),
            incarnation: identity.incarnation,
            cluster_id: identity
                .membership
                .map(|m| m.cluster_id)
                .unwrap_or_default(),
            client_addr: self.0.client_addr.clone(),
            about: Some(self.0.about.message()),
        }))
    }

    async fn found(
        &self,
        request: Request<pb::FoundRequest>,
    ) -> Result<Response<pb::FoundResponse>, Status> {
        let request = request.into_inner();
        let refused = self.accept_founding(request)?.unwrap_or_default();
        if refused.is_empty() {
            self.0.founded.notify_one();
        }
        Ok(Response::new(pb::FoundResponse {
            refused,
            about: Some(self.0.about.message()),
        }))
    }
}

/// Why a request to found a set cannot be one: the names in their order have the node ids from 1 on.
fn malformed(request: &pb::FoundRequest) -> Option<&'static str> {
    let founders = &request.founders;
    let texts = founders.iter().flat_map(|f| [&f.name, &f.incarnation]);
    let mut texts = texts.chain([&request.cluster_id]);
    let in_order = founders.is_sorted_by(|a, b| a.name < b.name);
    if founders.len() > MAX_FOUNDERS || texts.any(|t| t.is_empty() || t.len() > MAX_TEXT) {
        return Some("too many founders, or a name that is none");
    }
    let counted = (1..).zip(founders).all(|(id, f)| f.node_id == id);
    let plain = request
        .cluster_id
        .bytes()
        .all(|b| b.is_ascii_alphanumeric());
    (!in_order || !counted || !plain).then_some("founders that are not in their order")
}

/// Reads a received snapshot whole.
async fn check_snapshot(
    fs: Arc<dyn FileSystem>,
    path: &std::path::Path,
    index: u64,
) -> Result<(), Status> {
    let path = path.to_path_buf();
    let checked = crate::blocking::run(move || raftmq_store::snapshots::check(fs.as_ref(), &path));
    let header = checked
        .await
        .map_err(|e| Status::internal(e.to_string()))?
        .map_err(|e| Status::data_loss(e.to_string()))?;
    let membership = header.membership.as_deref().map(decode_stored);
    if membership.is_some_and(|decoded| decoded.is_err()) {
        return Err(Status::data_loss(
            "a snapshot without a membership that can be read",
        ));
    }
    if header.mark.index != index {
        return Err(Status::data_loss("a snapshot of another entry"));
    }
    Ok(())
}

impl PeerService {
    /// Becomes a founder, or says why not.
    fn accept_founding(&self, request: pb::FoundRequest) -> Result<Option<String>, Status> {
        let mut identity = self.0.identity.lock();
        if request.set != identity.set {
            return Ok(Some(format!("this is the set {}", identity.set)));
        }
        if let Some(membership) = &identity.membership {
            let same = membership.cluster_id == request.cluster_id;
            return Ok((!same).then(|| format!("already a member of {}", membership.cluster_id)));
        }
        if let Some(why) = malformed(&request) {
            return Err(Status::invalid_argument(why));
        }
        let own = request.founders.iter().find(|f| f.name == self.0.name);
        let Some(own) = own.filter(|f| f.incarnation == identity.incarnation) else {
            return Ok(Some("this directory is not among the founders".to_owned()));
        };
        let founder = About::told(request.about.clone());
        let known = request.founders.iter().min_by(|a, b| a.name.cmp(&b.name));
        let name = known.map_or("the founder", |f| f.name.as_str());
        if let Some(why) = self.0.about.misfit(&self.0.name, (name, &founder), 0) {
            return Ok(Some(why));
        }
        if request.version > self.0.about.newest {
            return Ok(Some(format!(
                "the set is to begin with version {}, the program of {} knows versions up to {}",
                request.version, self.0.name, self.0.about.newest
            )));
        }
        let mut founded = identity.clone();
        founded.membership = Some(Belongs {
            version: request.version,
            cluster_id: request.cluster_id,
            node_id: own.node_id,
            founders: request
                .founders
                .into_iter()
                .map(|f| (f.node_id, f.name, f.incarnation))
                .collect(),
            name: self.0.name.clone(),
            ..Belongs::default()
        });
        founded
            .save(self.0.ground.env.fs.as_ref(), &self.0.dir)
            .map_err(|e| Status::internal(e.to_string()))?;
        *identity = founded;
        Ok(None)
    }
}
