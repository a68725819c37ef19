//! What a master does when it starts to serve, or its settings change: the topics and groups every broker has are made through the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmq_store::Command;

use crate::broker::{Broker, now_ms};
use crate::creation::{default_group, plain_topic};
use crate::names;

/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// Commands that are missing for a complete set of system topics and groups.
fn missing(broker: &Broker) -> Vec<Command> {
    let state = broker.state();
    let mut commands = Vec::new();
    for (name, (queues, perm)) in names::topics_at_start(&broker.config()) {
        let enough = state
            .topic(&name)
            .is_some_and(|t| name != names::SCHEDULE || t.write_queue_nums >= queues);
        if !enough {
            commands.push(Command::PutTopic {
                config: plain_topic(&name, queues, perm),
                now_ms: now_ms(),
            });
        }
    }
    // Clients take the template's presence in the route as leave to create topics.
    if !broker.config().auto_create_topic && state.topic(names::TEMPLATE).is_some() {
        commands.push(Command::DeleteTopic {
            topic: names::TEMPLATE.to_owned(),
            now_ms: now_ms(),
        });
    }
    for name in names::SYSTEM_GROUPS {
        if state.group(name).is_none() {
            commands.push(Command::PutGroup {
                config: default_group(name),
                now_ms: now_ms(),
            });
        }
    }
    commands
}

/// Completes the system topics and groups whenever this replica starts to lead or gets other settings; for the life of the broker.
pub async fn run(broker: Arc<Broker>) {
    let mut role = broker.replica.watch_role();
    let mut settings = broker.settings.changes();
    loop {
        if role.borrow_and_update().serving {
            complete(&broker).await;
        }
        let changed = tokio::select! {
            changed = role.changed() => changed,
            changed = settings.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

async fn complete(broker: &Arc<Broker>) {
    while broker.leads() {
        let commands = missing(broker);
        if commands.is_empty() {
            return;
        }
        let (tx, rx) = tokio::sync::oneshot::channel();
        let proposal = broker.commands(commands, Instant::now() + broker.config().ack_timeout());
        broker
            .replica
            .propose(proposal, move |result| drop(tx.send(result)));
        match rx.await {
            Ok(Ok(_)) => tracing::info!("system topics and groups are complete"),
            Ok(Err(e)) => {
                tracing::warn!(error = %e, "cannot create the system topics yet");
                tokio::time::sleep(PAUSE).await;
            }
            Err(_) => return,
        }
    }
}
