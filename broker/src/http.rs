//! The HTTP port: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever looks after the process.
//!
//! Open when `metricsExporterType=PROM` or `healthCheckEnable=true`, on RocketMQ's port for it. One request a connection,
//! a few connections at once, little time: it must not become a way to hurt the broker.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::broker::Broker;
use crate::error::BrokerError;
use crate::{exporter, health};

/// Connections served at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 32;

/// Life of a connection.
const MAX_LIFE: Duration = Duration::from_secs(10);

/// Longest request, bytes.
const MAX_REQUEST: usize = 16 * 1024;

/// Pause when no connection can be accepted, for want of descriptors for example.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// An open port; closed by ending its task.
pub struct HttpPort {
    pub addr: SocketAddr,
    pub task: JoinHandle<()>,
}

/// Opens the port, when the settings ask for it. Error: it is taken.
pub async fn open(broker: &Arc<Broker>) -> Result<Option<HttpPort>, BrokerError> {
    let Some(wanted) = broker.config().http_addr() else {
        return Ok(None);
    };
    let failed = |source| BrokerError::Listen {
        addr: wanted.to_string(),
        source,
    };
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    tracing::info!(%addr, "metrics and health are shown");
    let task = tokio::spawn(accept(broker.clone(), listener));
    Ok(Some(HttpPort { addr, task }))
}

async fn accept(broker: Arc<Broker>, listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let broker = broker.clone();
                tokio::spawn(async move {
                    let _ = timeout(MAX_LIFE, serve(broker, stream)).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the HTTP port cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn serve(broker: Arc<Broker>, stream: TcpStream) {
    let service = service_fn(|request| {
        let broker = broker.clone();
        async move { Ok::<_, Infallible>(respond(&broker, &request).await) }
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_REQUEST)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

async fn respond(broker: &Arc<Broker>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET\n".to_owned());
    }
    let reasons = match request.uri().path() {
        "/metrics" => {
            return match exporter::render(broker).await {
                Some(text) => answer(StatusCode::OK, METRICS, text),
                None => {
                    let off = "metricsExporterType is not PROM\n".to_owned();
                    answer(StatusCode::NOT_FOUND, TEXT, off)
                }
            };
        }
        "/healthz" => health::failure(broker).await.into_iter().collect(),
        "/readyz" => health::hindrances(broker).await,
        _ => {
            return answer(
                StatusCode::NOT_FOUND,
                TEXT,
                "/metrics /healthz /readyz\n".to_owned(),
            );
        }
    };
    match reasons.is_empty() {
        true => answer(StatusCode::OK, TEXT, "ok\n".to_owned()),
        false => answer(
            StatusCode::SERVICE_UNAVAILABLE,
            TEXT,
            reasons.join("\n") + "\n",
        ),
    }
}

fn answer(status: StatusCode, kind: HeaderValue, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
