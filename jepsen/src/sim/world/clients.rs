//! What clients of a simulated set do, and what they are answered.

use bytes::Bytes;
use raftmq_raft::{Command, OffsetCommit, Proposal, ProposeError};
use raftmq_remoting::ByteStr;
use raftmq_remoting::body::TopicConfig;
use raftmq_remoting::message::{NewMessage, body_crc};

use super::super::host::Act;
use super::{ANSWERED_WITHIN, Asked, Check, GROUP, QUEUES, TOPIC, World};

impl World {
    pub(super) fn clients(&mut self) {
        if self.dice.below(self.pace) == 0 {
            match self.dice.permille(850) {
                true => self.send(),
                false => self.commit_offset(),
            }
        }
    }

    /// Whoever a client takes for the leader.
    fn asked_host(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..self.hosts.len())
            .filter(|h| self.hosts[*h].is_up() && !self.paused[*h])
            .collect();
        let serving: Vec<usize> = up
            .iter()
            .copied()
            .filter(|h| {
                self.looks[*h]
                    .as_ref()
                    .is_some_and(|l| l.leads_in.is_some())
            })
            .collect();
        let target = match self.dice.permille(850) {
            true => self.dice.pick(&serving).copied(),
            false => None,
        };
        target.or_else(|| self.dice.pick(&up).copied())
    }

    /// A client sends one to three messages to a queue.
    pub(super) fn send(&mut self) {
        let Some(host) = self.asked_host() else {
            return;
        };
        let queue = self.dice.below(QUEUES as u64) as usize;
        let values: Vec<u64> = (0..self.dice.within(1, 4))
            .map(|nth| self.next_value + nth)
            .collect();
        self.next_value += values.len() as u64;
        let padding = self.dice.below(self.padding) as usize;
        let messages = values
            .iter()
            .map(|value| message(queue, *value, padding))
            .collect();
        self.ask(host, queue, values, messages, Vec::new());
    }

    /// A client stores how far it has consumed a queue, one offset after the other.
    fn commit_offset(&mut self) {
        let queue = self.dice.below(QUEUES as u64) as usize;
        let busy = |asked: &Asked| asked.values.is_empty() && asked.queue == queue;
        if self.asked.values().any(busy) {
            return;
        }
        let Some(host) = self.asked_host() else {
            return;
        };
        let commit = OffsetCommit {
            group: GROUP.to_owned(),
            topic: TOPIC.to_owned(),
            queue_id: queue as i32,
            offset: self.next_value as i64,
        };
        let commit = Command::CommitOffsets {
            offsets: vec![commit],
        };
        // A commit counts for topics that exist; clients do not know whether the one that made it was heard.
        let topic = Command::PutTopic {
            config: TopicConfig {
                topic_name: TOPIC.to_owned(),
                ..Default::default()
            },
            now_ms: 0,
        };
        self.ask(host, queue, Vec::new(), Vec::new(), vec![topic, commit]);
        self.next_value += 1;
    }

    fn ask(
        &mut self,
        host: usize,
        queue: usize,
        values: Vec<u64>,
        messages: Vec<NewMessage>,
        commands: Vec<Command>,
    ) {
        let number = match values.first() {
            Some(first) => *first,
            None => self.next_value,
        };
        let proposal = Proposal {
            messages,
            commands,
            ack: None,
            only_term: None,
            deadline: std::time::Instant::now(),
        };
        self.sends += 1;
        self.digest.add(&[self.now, number, host as u64]);
        let asked = Asked {
            values,
            queue,
            host,
            at: self.now,
        };
        self.asked.insert(number, asked);
        self.acts[host].push(Act::Propose(number, proposal));
    }

    pub(super) fn settle(&mut self, host: usize) -> Check {
        for (number, result) in self.hosts[host].settled() {
            let Some(asked) = self.asked.remove(&number) else {
                return Err(format!("the send {number} was answered twice"));
            };
            self.digest
                .add(&[self.now, number, u64::from(result.is_ok())]);
            match result {
                Ok(_) if asked.values.is_empty() => {
                    self.oracle.acknowledge_offset(asked.queue, number as i64);
                }
                Ok(stored) => self
                    .oracle
                    .acknowledge(&asked.values, asked.queue, &stored)?,
                Err(ProposeError::Unknown) => self.unknown += 1,
                Err(why) => {
                    self.refused += 1;
                    let all = match asked.values.is_empty() {
                        true => vec![number],
                        false => asked.values,
                    };
                    self.oracle.refuse(&all, &why)?;
                }
            }
        }
        Ok(())
    }

    /// A process that lives answers every send, if only to say that nobody knows.
    pub(super) fn answered(&self, host: usize) -> Check {
        let late = |asked: &&Asked| asked.host == host && asked.at + ANSWERED_WITHIN < self.now;
        match self.asked.values().find(late) {
            Some(asked) => Err(format!(
                "n{host} has not answered a send of {} ms",
                asked.at
            )),
            None => Ok(()),
        }
    }
}

fn message(queue: usize, value: u64, padding: usize) -> NewMessage {
    let body = Bytes::from(value.to_string());
    let mut properties = b"TAGS\x01a\x02PAD\x01".to_vec();
    properties.extend(std::iter::repeat_n(b'x', padding));
    properties.push(2);
    NewMessage {
        topic: ByteStr::from(TOPIC),
        queue_id: queue as i32,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: ([127, 0, 0, 1], 1).into(),
        store_host: ([127, 0, 0, 1], 2).into(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body_crc: body_crc(&body),
        body,
        properties: properties.into(),
    }
}
