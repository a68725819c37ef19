//! The name servers a client knows, and falling over between them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use raftmq_remoting::body::{ClusterInfo, TopicRouteData};
use raftmq_remoting::header::GetRouteInfoRequestHeader;
use raftmq_remoting::{RemotingClient, RemotingCommand, json, request_code, response_code};

use crate::error::ClientError;

/// A list of name servers; one is used until it fails.
pub(crate) struct NameServers {
    addrs: Vec<String>,
    current: AtomicUsize,
}

impl NameServers {
    /// Reads `a:9876;b:9876`.
    pub(crate) fn parse(list: &str) -> Result<Self, ClientError> {
        let addrs: Vec<String> = list
            .split(';')
            .map(str::trim)
            .filter(|a| !a.is_empty())
            .map(str::to_owned)
            .collect();
        let has_port = |a: &String| {
            a.rsplit_once(':')
                .is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok())
        };
        if addrs.is_empty() || !addrs.iter().all(has_port) {
            return Err(ClientError::Invalid(format!(
                "name server list {list:?}: host:port joined with ; is wanted"
            )));
        }
        Ok(Self {
            addrs,
            current: AtomicUsize::new(0),
        })
    }

    pub(crate) fn all(&self) -> &[String] {
        &self.addrs
    }

    /// Asks one name server after the other until one answers, whatever the answer is. `good` answers end the search; if
    /// there is none, the last answer counts.
    async fn ask(
        &self,
        remoting: &RemotingClient,
        cmd: &RemotingCommand,
        timeout: Duration,
        good: impl Fn(&RemotingCommand) -> bool,
    ) -> Result<(String, RemotingCommand), ClientError> {
        let first = self.current.load(Ordering::Relaxed);
        let mut answered = None;
        let mut why = String::new();
        for i in 0..self.addrs.len() {
            let at = (first + i) % self.addrs.len();
            let addr = &self.addrs[at];
            match remoting.invoke(addr, cmd.clone(), timeout).await {
                Ok(answer) if good(&answer) => {
                    self.current.store(at, Ordering::Relaxed);
                    return Ok((addr.clone(), answer));
                }
                Ok(answer) => answered = Some((addr.clone(), answer)),
                Err(e) => why = e.to_string(),
            }
        }
        answered.ok_or(ClientError::NoNameServer { why })
    }

    /// The route of a topic. A name server that does not know it may have just started: the others are asked, too.
    pub(crate) async fn route(
        &self,
        remoting: &RemotingClient,
        topic: &str,
        timeout: Duration,
    ) -> Result<TopicRouteData, ClientError> {
        let header = GetRouteInfoRequestHeader {
            topic: topic.to_owned(),
            accept_standard_json_only: Some(true),
        };
        let cmd = RemotingCommand::request_with(request_code::GET_ROUTEINFO_BY_TOPIC, &header);
        let (addr, answer) = self
            .ask(remoting, &cmd, timeout, |a| {
                a.code == response_code::SUCCESS
            })
            .await?;
        match answer.code {
            response_code::SUCCESS => {
                json::from_slice(&answer.body.to_bytes()).map_err(ClientError::json(&addr))
            }
            response_code::TOPIC_NOT_EXIST => Err(ClientError::NoRoute {
                topic: topic.to_owned(),
            }),
            code => Err(ClientError::Broker {
                addr,
                code,
                remark: answer.remark.unwrap_or_default(),
            }),
        }
    }

    pub(crate) async fn cluster_info(
        &self,
        remoting: &RemotingClient,
        timeout: Duration,
    ) -> Result<ClusterInfo, ClientError> {
        let cmd = RemotingCommand::request(request_code::GET_BROKER_CLUSTER_INFO);
        let (addr, answer) = self.call(remoting, &cmd, timeout).await?;
        json::from_slice(&answer.body.to_bytes()).map_err(ClientError::json(&addr))
    }

    /// Asks the first name server that answers; an error code is an error.
    pub(crate) async fn call(
        &self,
        remoting: &RemotingClient,
        cmd: &RemotingCommand,
        timeout: Duration,
    ) -> Result<(String, RemotingCommand), ClientError> {
        let (addr, answer) = self.ask(remoting, cmd, timeout, |_| true).await?;
        match answer.code {
            response_code::SUCCESS => Ok((addr, answer)),
            code => Err(ClientError::Broker {
                addr,
                code,
                remark: answer.remark.unwrap_or_default(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        assert_eq!(
            NameServers::parse(" a:1 ;b:2;").unwrap().all(),
            ["a:1", "b:2"]
        );
        assert_eq!(NameServers::parse("[::1]:9876").unwrap().all().len(), 1);
        for bad in ["", ";", "a", "a:", ":1", "a:1;b", "a:70000"] {
            assert!(
                matches!(NameServers::parse(bad), Err(ClientError::Invalid(_))),
                "{bad}"
            );
        }
    }
}
