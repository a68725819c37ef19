//! Brokers come, give a sign of life, and go: 103, 104, 322, 904, and what the name server tells them by itself (905).

use std::time::{Duration, Instant};

use raftmq_remoting::body::{DataVersion, KVTable, RegisterBrokerBody};
use raftmq_remoting::header::{
    BrokerHeartbeatRequestHeader, NotifyMinBrokerIdChangeRequestHeader,
    QueryDataVersionRequestHeader, QueryDataVersionResponseHeader, RegisterBrokerRequestHeader,
    RegisterBrokerResponseHeader, UnRegisterBrokerRequestHeader, extra,
};
use raftmq_remoting::message::body_crc;
use raftmq_remoting::{Channel, RemotingCommand, json, request_code};

use super::{Answer, NamesrvHandler, Refused, parse, success};
use crate::config::NamesrvConfig;
use crate::kv_config::ORDER_TOPIC_CONFIG;
use crate::route_table::{MinIdChange, Registered, Registration};

impl NamesrvHandler {
    pub(super) fn register(
        &self,
        cmd: &RemotingCommand,
        channel: &Channel,
        config: &NamesrvConfig,
    ) -> Answer {
        let h: RegisterBrokerRequestHeader = cmd.header()?;
        let body = cmd.body.to_bytes();
        if h.body_crc32 != 0 && i64::from(body_crc(&body)) != i64::from(h.body_crc32) {
            tracing::warn!(broker = %h.broker_name, addr = %h.broker_addr, "registration with a bad checksum");
            return Err(Refused::system_error("crc32 not match"));
        }
        let timeout = match h.heartbeat_timeout_millis {
            None => None,
            Some(ms) => match u64::try_from(ms) {
                Ok(ms) if ms > 0 => Some(Duration::from_millis(ms)),
                _ => {
                    return Err(Refused::system_error(format!(
                        "heartbeatTimeoutMillis is {ms}, not above 0"
                    )));
                }
            },
        };
        let body = RegisterBrokerBody::decode(&body, cmd.version).map_err(|e| {
            tracing::warn!(broker = %h.broker_name, addr = %h.broker_addr, error = %e, "registration not understood");
            Refused::system_error(format!("Failed to decode RegisterBrokerBody: {e}"))
        })?;
        let registration = Registration {
            cluster: h.cluster_name,
            broker_name: h.broker_name,
            addr: h.broker_addr,
            broker_id: h.broker_id,
            ha_addr: h.ha_server_addr,
            zone: cmd.ext.get(extra::ZONE_NAME).map(str::to_owned),
            timeout,
            enable_acting_master: h.enable_acting_master,
            delete_absent_topics: config.delete_topic_with_broker_registration,
            connection: channel.id(),
            body,
        };
        let Registered {
            master,
            min_id_change,
            ..
        } = self
            .routes
            .register(registration, Instant::now())
            .map_err(Refused::system_error)?;
        if let Some(change) = min_id_change {
            self.notify(change);
        }
        let (master_addr, ha_server_addr) = master.unzip();
        let mut response = success().with_header(&RegisterBrokerResponseHeader {
            ha_server_addr,
            master_addr,
        });
        if config.return_order_topic_config_to_broker
            && let Some(table) = self.kv.namespace(ORDER_TOPIC_CONFIG)
        {
            response = response.with_body(json::to_bytes(&KVTable { table }));
        }
        Ok(response)
    }

    pub(super) fn unregister(&self, cmd: &RemotingCommand) -> Answer {
        let h: UnRegisterBrokerRequestHeader = cmd.header()?;
        if let Some(change) = self.routes.unregister(&h.broker_name, &h.broker_addr) {
            self.notify(change);
        }
        Ok(success())
    }

    pub(super) fn heartbeat(&self, cmd: &RemotingCommand) -> Answer {
        let h: BrokerHeartbeatRequestHeader = cmd.header()?;
        // An unknown broker learns it from its next registration, as with the Java name server.
        self.routes
            .heartbeat(&h.broker_name, &h.broker_addr, Instant::now());
        Ok(success())
    }

    pub(super) fn data_version(&self, cmd: &RemotingCommand) -> Answer {
        let h: QueryDataVersionRequestHeader = cmd.header()?;
        let theirs: DataVersion = parse(&cmd.body.to_bytes(), "DataVersion")?;
        let ours = self
            .routes
            .data_version(&h.broker_name, &h.broker_addr, Instant::now());
        let response = success().with_header(&QueryDataVersionResponseHeader {
            changed: ours != Some(theirs),
        });
        Ok(match ours {
            Some(version) => response.with_body(json::to_bytes(&version)),
            None => response,
        })
    }

    /// Tells the members of a set about its new lowest id, when that is wanted.
    pub(super) fn notify(&self, change: MinIdChange) {
        if !self.config.load().notify_min_broker_id_changed {
            return;
        }
        let told: Vec<Channel> = {
            let channels = self.channels.lock();
            change
                .connections
                .iter()
                .filter_map(|id| channels.get(id).cloned())
                .collect()
        };
        let header = NotifyMinBrokerIdChangeRequestHeader {
            min_broker_id: Some(change.min_broker_id),
            broker_name: Some(change.broker_name),
            min_broker_addr: Some(change.min_broker_addr),
            offline_broker_addr: change.offline_addr,
            ha_broker_addr: change.ha_addr,
        };
        for channel in told {
            channel.oneway(RemotingCommand::request_with(
                request_code::NOTIFY_MIN_BROKER_ID_CHANGE,
                &header,
            ));
        }
    }
}
