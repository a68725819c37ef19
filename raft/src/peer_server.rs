//! The peer port: what the other replicas ask of this one. Up from the first moment, so that a set can be founded;
//! Raft calls are refused until this directory belongs to a set.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use futures_util::{Stream, StreamExt};
use openraft::raft::{TransferLeaderRequest, VoteRequest};
use parking_lot::Mutex;
use raftmq_proto::raft as pb;
use raftmq_proto::raft::peer_server::Peer;
use raftmq_store::commitlog::CommitLog;
use raftmq_store::snapshots::Snapshots;
use raftmq_store::vfs::FileSystem;
use tonic::{Request, Response, Status, Streaming};

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
    /// Woken when the identity has changed.
    pub founded: tokio::sync::Notify,
}

/// Bytes of log that another replica gets at once for a repair.
const MAX_REPAIR: usize = 4 * 1024 * 1024;

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
        };
        call.check(request.metadata())
    }

    fn owner(&self) -> Result<Arc<Inner>, Status> {
        let owner = self.0.owner.get().and_then(Weak::upgrade);
        owner.ok_or_else(|| Status::unavailable("this replica starts or ends"))
    }

    fn core<T>(&self, request: &Request<T>) -> Result<&Raft, Status> {
        let Some((raft, call)) = self.0.core.get() else {
            return Err(Status::unavailable(
                "this replica does not belong to a set yet",
            ));
        };
        call.check(request.metadata())?;
        Ok(raft)
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
        Ok(Response::new(Box::pin(output)))
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
            wire::id_from(request.last),
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
            wire::id_from(request.last),
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
        let last = wire::id_from(head.last)
            .ok_or_else(|| Status::invalid_argument("a snapshot of nothing"))?;
        let disk = |e: std::io::Error| Status::resource_exhausted(e.to_string());
        let mut incoming = Incoming::create(
            self.0.ground.env.fs.clone(),
            self.0.snapshots.incoming_path(last.index),
        )
        .map_err(disk)?;
        while let Some(chunk) = input.message().await? {
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
            .install_full_snapshot(wire::vote_from(head.vote)?, snapshot)
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
        let raft = self.core(&request)?;
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
        Ok(Response::new(pb::FoundResponse { refused }))
    }
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
        let own = request.founders.iter().find(|f| f.name == self.0.name);
        let Some(own) = own.filter(|f| f.incarnation == identity.incarnation) else {
            return Ok(Some("this directory is not among the founders".to_owned()));
        };
        let mut founded = identity.clone();
        founded.membership = Some(Belongs {
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
