//! Brokers: configuration and runtime figures. Also the name servers' key-value configuration.

use std::collections::BTreeMap;

use raftmq_remoting::body::KVTable;
use raftmq_remoting::header::{DeleteKVConfigRequestHeader, PutKVConfigRequestHeader};
use raftmq_remoting::{RemotingCommand, json, request_code};

use super::Admin;
use crate::error::ClientError;

impl Admin {
    /// A broker's settings by key.
    pub async fn broker_config(&self, addr: &str) -> Result<BTreeMap<String, String>, ClientError> {
        let answer = self
            .call(
                addr,
                RemotingCommand::request(request_code::GET_BROKER_CONFIG),
            )
            .await?;
        let text = answer.body.to_bytes();
        let text = std::str::from_utf8(&text).map_err(|e| ClientError::bad_answer(addr, e))?;
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Ok(pairs
            .map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()))
            .collect())
    }

    /// Changes settings of a broker.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for a key or value that does not fit on a `key=value` line.
    pub async fn update_broker_config(
        &self,
        addr: &str,
        changes: &[(&str, &str)],
    ) -> Result<(), ClientError> {
        let mut text = String::new();
        for (key, value) in changes {
            if key.is_empty()
                || key.contains(['=', ':', '\n', '\r', ' '])
                || value.contains(['\n', '\r', '\\'])
            {
                return Err(ClientError::Invalid(format!("setting {key:?}={value:?}")));
            }
            text.extend([key, "=", value, "\n"]);
        }
        let cmd = RemotingCommand::request(request_code::UPDATE_BROKER_CONFIG).with_body(text);
        self.call(addr, cmd).await.map(drop)
    }

    /// A broker's runtime figures by name.
    pub async fn runtime_info(&self, addr: &str) -> Result<BTreeMap<String, String>, ClientError> {
        let answer = self
            .call(
                addr,
                RemotingCommand::request(request_code::GET_BROKER_RUNTIME_INFO),
            )
            .await?;
        let table: KVTable =
            json::from_slice(&answer.body.to_bytes()).map_err(ClientError::json(addr))?;
        Ok(table.table)
    }

    /// Puts a key-value pair at every name server.
    pub async fn put_kv_config(
        &self,
        namespace: &str,
        key: &str,
        value: &str,
    ) -> Result<(), ClientError> {
        let header = PutKVConfigRequestHeader {
            namespace: namespace.into(),
            key: key.into(),
            value: value.into(),
        };
        for addr in self.instance.names.all() {
            self.call(
                addr,
                RemotingCommand::request_with(request_code::PUT_KV_CONFIG, &header),
            )
            .await?;
        }
        Ok(())
    }

    /// Deletes a key at every name server.
    pub async fn delete_kv_config(&self, namespace: &str, key: &str) -> Result<(), ClientError> {
        let header = DeleteKVConfigRequestHeader {
            namespace: namespace.into(),
            key: key.into(),
        };
        for addr in self.instance.names.all() {
            self.call(
                addr,
                RemotingCommand::request_with(request_code::DELETE_KV_CONFIG, &header),
            )
            .await?;
        }
        Ok(())
    }
}
