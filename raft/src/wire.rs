//! Between openraft's types and protobuf, and the metadata that says who speaks to whom.

use std::sync::Arc;

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, StreamAppendError};
use prost::Message;
use raftmq_proto::raft as pb;
use raftmq_store::commitlog::format::check_entry;
use raftmq_store::commitlog::tail::RawEntry;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Status};

use crate::about::About;
use crate::core::MAX_REQUEST_ENTRIES;
use crate::types::{Body, Entry, LeaderId, LogId, TypeConfig, Vote, log_id};

pub fn vote_to(vote: &Vote) -> pb::Vote {
    pb::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub fn vote_from(vote: Option<pb::Vote>) -> Result<Vote, Status> {
    let vote = vote.ok_or_else(|| Status::invalid_argument("no vote"))?;
    check_bounds(vote.term, 0)?;
    Ok(Vote {
        leader_id: LeaderId {
            term: vote.term,
            voted_for: vote.node_id,
        },
        committed: vote.committed,
    })
}

pub fn id_to(id: &LogId) -> pb::LogId {
    pb::LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub fn id_from(id: Option<pb::LogId>) -> Result<Option<LogId>, Status> {
    id.map(|id| {
        check_bounds(id.term, id.index)?;
        Ok(log_id(id.term, id.index))
    })
    .transpose()
}

/// Terms and indexes from here on are refused: a set that took one could not count on. At a million elections a second a
/// true term is there in a hundred thousand years.
const TOO_LARGE: u64 = 1 << 62;

/// Refuses what no set has come to.
///
/// # Errors
/// A status that names both.
pub fn check_bounds(term: u64, index: u64) -> Result<(), Status> {
    match term.max(index) {
        0..TOO_LARGE => Ok(()),
        _ => Err(Status::invalid_argument(format!(
            "term {term}, index {index}: no set has come so far"
        ))),
    }
}

pub fn append_to(request: AppendEntriesRequest<TypeConfig>) -> pb::AppendRequest {
    let entries = request
        .entries
        .into_iter()
        .filter_map(|entry| match entry.body {
            Body::Stored(raw, _) => Some(raw.bytes),
            // Replication reads entries from the log, where they are complete.
            _ => None,
        });
    pb::AppendRequest {
        vote: Some(vote_to(&request.vote)),
        previous: request.prev_log_id.as_ref().map(id_to),
        committed: request.leader_commit.as_ref().map(id_to),
        entries: entries.collect(),
    }
}

/// Decodes a request and checks every entry's checksum.
pub fn append_from(request: pb::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    let vote = vote_from(request.vote)?;
    let previous = id_from(request.previous)?;
    if request.entries.len() > MAX_REQUEST_ENTRIES as usize {
        return Err(Status::invalid_argument(
            "more entries than one request has",
        ));
    }
    let mut entries = Vec::with_capacity(request.entries.len());
    let mut last = previous.map(|id| (id.leader_id.term, id.index));
    for bytes in request.entries {
        let damaged = |e: raftmq_store::StoreError| Status::data_loss(e.to_string());
        let header = check_entry(&bytes).map_err(damaged)?;
        // One after the other, of terms that the sender of this vote may have: openraft and the log rely on it.
        let next = last.map_or(0, |(_, index)| index + 1);
        let since = last.map_or(0, |(term, _)| term);
        if header.index != next || !(since..=vote.leader_id.term).contains(&header.term) {
            return Err(Status::invalid_argument(format!(
                "entry {} of term {} after {last:?} from a leader of term {}",
                header.index, header.term, vote.leader_id.term
            )));
        }
        last = Some((header.term, header.index));
        // The log keeps entries in memory for a while; as a slice each would keep the whole buffer it came in.
        let bytes = Bytes::copy_from_slice(&bytes);
        entries.push(Entry::stored(RawEntry { header, bytes }).map_err(damaged)?);
    }
    Ok(AppendEntriesRequest {
        vote,
        prev_log_id: previous,
        entries,
        leader_commit: id_from(request.committed)?,
    })
}

/// A replication stream's result on the wire.
pub fn result_to(
    result: Result<Option<LogId>, StreamAppendError<TypeConfig>>,
) -> pb::AppendResponse {
    use pb::append_response::Result as R;
    let result = match result {
        Ok(matched) => R::Matched(pb::Matched {
            log_id: matched.as_ref().map(id_to),
        }),
        Err(StreamAppendError::Conflict(at)) => R::Conflict(id_to(&at)),
        Err(StreamAppendError::HigherVote(vote)) => R::Higher(vote_to(&vote)),
    };
    pb::AppendResponse {
        result: Some(result),
    }
}

pub fn result_from(
    response: pb::AppendResponse,
) -> Result<Result<Option<LogId>, StreamAppendError<TypeConfig>>, Status> {
    use pb::append_response::Result as R;
    match response.result {
        Some(R::Matched(matched)) => Ok(Ok(id_from(matched.log_id)?)),
        Some(R::Conflict(at)) => {
            check_bounds(at.term, at.index)?;
            Ok(Err(StreamAppendError::Conflict(log_id(at.term, at.index))))
        }
        Some(R::Higher(vote)) => Ok(Err(StreamAppendError::HigherVote(vote_from(Some(vote))?))),
        None => Err(Status::invalid_argument("an empty append response")),
    }
}

const SET: &str = "raftmq-set";
const CLUSTER: &str = "raftmq-cluster";
const FROM: &str = "raftmq-from";
const TO: &str = "raftmq-to";
const ABOUT: &str = "raftmq-about-bin";

/// Node id of the caller; 0 when it does not say.
pub fn caller(metadata: &MetadataMap) -> u64 {
    let text = metadata.get(FROM).and_then(|v| v.to_str().ok());
    text.and_then(|id| id.parse().ok()).unwrap_or(0)
}

/// Who calls whom.
#[derive(Debug, Clone)]
pub struct Call {
    pub set: String,
    pub cluster_id: String,
    pub from: u64,
    pub to: u64,
    /// What this replica says of itself.
    pub about: Arc<About>,
}

impl Call {
    /// Puts the names into a request.
    pub fn sign<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        let bad = |_| Status::invalid_argument("a set name that cannot stand in metadata");
        let map = request.metadata_mut();
        // Broker names may hold any character; metadata holds ASCII only.
        let set: String = self.set.bytes().map(|b| format!("{b:02x}")).collect();
        map.insert(SET, set.parse().map_err(bad)?);
        map.insert(CLUSTER, self.cluster_id.parse().map_err(bad)?);
        map.insert(FROM, self.from.into());
        map.insert(TO, self.to.into());
        self.tell(map);
        Ok(request)
    }

    /// Says what this replica is, in the metadata of a request or an answer.
    pub fn tell(&self, map: &mut MetadataMap) {
        let about = self.about.message().encode_to_vec();
        map.insert_bin(ABOUT, MetadataValue::from_bytes(&about));
    }

    /// What the other side said of itself; [`About::default`] when it said nothing that can be read.
    pub fn told(map: &MetadataMap) -> About {
        let bytes = map.get_bin(ABOUT).and_then(|v| v.to_bytes().ok());
        About::told(bytes.and_then(|bytes| pb::About::decode(bytes).ok()))
    }

    /// Refuses a call that was meant for another set or replica: a stale address must never count as a vote.
    pub fn check(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let text = |key| {
            metadata
                .get(key)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default()
        };
        let set: String = self.set.bytes().map(|b| format!("{b:02x}")).collect();
        if text(SET) != set || text(CLUSTER) != self.cluster_id {
            return Err(Status::permission_denied("another broker set"));
        }
        if text(TO) != self.to.to_string() {
            return Err(Status::permission_denied(format!(
                "this is replica {}, not {}",
                self.to,
                text(TO)
            )));
        }
        Ok(())
    }
}
