//! Raising the set's version: what a new program writes is written only when every member can read it.
//!
//! A new program serves a set at the version the set has, so it can be taken back replica by replica. The raise is an
//! operator's decision (or `autoFinalizeUpgrade`): after it no older program can be a member. A set whose founders all know
//! the newest version begins with it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use raftmq_proto::raft as pb;
use raftmq_store::Command;

use crate::about::About;
use crate::dial::standing;
use crate::error::{ChangeError, ProposeError};
use crate::membership::is_settled;
use crate::options::Member;
use crate::replica::Inner;
use crate::wire::Call;

/// Longest wait for a member's answer.
const ANSWER: Duration = Duration::from_secs(1);
/// Longest wait for the raise to be committed.
const COMMIT: Duration = Duration::from_secs(10);

/// What a member knows.
struct Asked<'a> {
    member: &'a Member,
    /// `None`: it does not answer.
    newest: Option<u32>,
}

/// Why the set cannot be raised to `version`; `None`: every member knows it.
fn hindrance(asked: &[Asked<'_>], version: u32) -> Option<String> {
    let silent = asked.iter().filter(|a| a.newest.is_none());
    let silent: Vec<&str> = silent.map(|a| a.member.name.as_str()).collect();
    let old = asked.iter().filter_map(|a| {
        let newest = a.newest.filter(|newest| *newest < version)?;
        Some(format!("{} knows versions up to {newest}", a.member.name))
    });
    let old: Vec<String> = old.collect();
    let mut reasons = Vec::new();
    if !silent.is_empty() {
        reasons.push(format!("{} does not answer", silent.join(", ")));
    }
    reasons.extend(old);
    (!reasons.is_empty()).then(|| {
        format!(
            "the set cannot be raised to version {version}: {}",
            reasons.join("; ")
        )
    })
}

async fn ask_all<'a>(inner: &Inner, call: &Call, members: &'a [Member]) -> Vec<Asked<'a>> {
    let ask = members.iter().map(|member| async move {
        if member.node_id == call.from {
            let newest = Some(inner.peers.about.newest);
            return Asked { member, newest };
        }
        let (net, addr) = (&inner.peers.ground.net, &member.peer_addr);
        let answer = standing(net, addr, member.node_id, call, ANSWER).await.ok();
        let newest = answer.map(|a: pb::StandingResponse| About::told(a.about).newest);
        Asked { member, newest }
    });
    join_all(ask).await
}

/// Raises the set to the newest version this program knows. All members, learners too, must answer and know it.
///
/// # Errors
/// As [`ChangeError`] says; a refusal names the members in the way.
pub async fn finalize(inner: &Arc<Inner>) -> Result<(), ChangeError> {
    // Whoever changes the membership holds this: at the append it still is the one that was asked. The entry is bound to
    // the term, so no other leader's membership comes in between either.
    let _one_at_a_time = inner.changing.lock().await;
    let (raft, call) = inner.leading()?;
    let version = inner.peers.about.newest;
    if inner.store.state.set_version() >= version {
        return Ok(());
    }
    let role = inner.role.borrow().clone();
    if !is_settled(inner, &raft, &role) {
        return Err(ChangeError::Busy);
    }
    let asked = ask_all(inner, &call, &role.members).await;
    if let Some(why) = hindrance(&asked, version) {
        return Err(ChangeError::Refused(why));
    }
    if !is_settled(inner, &raft, &role) {
        return Err(ChangeError::Busy);
    }
    inner.raising.fetch_max(version, Ordering::SeqCst);
    let raised = inner.decide(Command::SetVersion { version }, role.term, COMMIT);
    match raised.await {
        Ok(()) => {
            tracing::warn!(
                version,
                "the set's version is raised: no older program can be a member any more"
            );
            Ok(())
        }
        Err(ProposeError::WrongTerm) => Err(ChangeError::NoLeader),
        Err(error) => Err(ChangeError::Unknown(error.to_string())),
    }
}

/// Whether the leader raises the version by itself: as the settings say, or because the set was founded for it.
pub fn is_wanted(inner: &Inner) -> bool {
    let now = inner.store.state.set_version();
    if now >= inner.peers.about.newest {
        return false;
    }
    let identity = inner.peers.identity.lock();
    let founded_for = identity.membership.as_ref().map_or(0, |m| m.version);
    founded_for > now || inner.policy.read().auto_finalize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_that_is_silent_or_old_is_named() {
        let member = |name: &str| Member {
            name: name.into(),
            ..Member::default()
        };
        let (a, b, c) = (member("n0"), member("n1"), member("n2"));
        let asked = |newest: [Option<u32>; 3]| {
            let members = [&a, &b, &c].into_iter().zip(newest);
            let asked: Vec<_> = members
                .map(|(member, newest)| Asked { member, newest })
                .collect();
            hindrance(&asked, 2)
        };
        assert_eq!(asked([Some(2), Some(3), Some(2)]), None);
        assert_eq!(
            asked([Some(2), Some(0), None]).as_deref(),
            Some(
                "the set cannot be raised to version 2: n2 does not answer; n1 knows versions up to 0"
            )
        );
    }
}
