//! One host's way into the simulated network: turns gRPC's requests and responses into packets and back.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, StreamBody};
use raftmq_raft::ground::{Answer, Body, Port, Wire, http};
use tonic::Status;

use super::net::{Frames, Net, Request, Way, What};

/// A host's network card.
pub struct HostWire {
    /// The network.
    pub net: Arc<Net>,
    /// Which host.
    pub host: usize,
}

/// Tells the other side when nobody reads the answer any more.
struct Reading {
    net: Arc<Net>,
    call: u64,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.net.abandon(self.call);
    }
}

impl Wire for HostWire {
    fn call(&self, to: &str, request: http::Request<Body>) -> Answer {
        let patience = patience(request.headers());
        let (head, body) = request.into_parts();
        let Some((call, answer, frames)) = self.net.open(self.host, to, head) else {
            let nobody = Status::unavailable(format!("nobody is at {to}"));
            return Box::pin(async { Err(nobody.into()) });
        };
        let reading = Reading {
            net: self.net.clone(),
            call,
        };
        let pump = tokio::spawn(pump(self.net.clone(), call, Way::Up, body));
        self.net.pumped_by(call, pump.abort_handle());
        Box::pin(async move {
            let head = match patience {
                None => answer.await,
                Some(patience) => tokio::time::timeout(patience, answer)
                    .await
                    .map_err(|_| Status::deadline_exceeded("no answer in time"))?,
            };
            let head = head.map_err(|_| Status::unavailable("refused or broken"))?;
            Ok(http::Response::from_parts(
                head,
                body_of(frames, Some(reading)),
            ))
        })
    }

    fn listen(&self, port: Port) {
        self.net.listen(self.host, port);
    }
}

/// Takes what has come for a host. Call it on the host's runtime.
pub fn take_arrivals(net: &Arc<Net>, host: usize) {
    for arrival in net.arrivals(host) {
        let Request {
            call,
            port,
            head,
            body,
        } = arrival;
        let request = http::Request::from_parts(*head, body_of(body, None));
        let task = tokio::spawn(answer(net.clone(), call, port(request)));
        net.answered_by(call, task.abort_handle());
    }
}

async fn answer(net: Arc<Net>, call: u64, answer: Answer) {
    match answer.await {
        Ok(response) => {
            let (head, body) = response.into_parts();
            net.send(call, Way::Down, What::Head(Box::new(head)));
            pump(net, call, Way::Down, body).await;
        }
        Err(_) => net.send(call, Way::Down, What::Reset),
    }
}

/// Sends a body, frame by frame.
async fn pump(net: Arc<Net>, call: u64, way: Way, mut body: Body) {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return net.send(call, way, What::Reset);
        };
        match frame.into_data() {
            Ok(bytes) => net.send(call, way, What::Data(bytes)),
            Err(other) => {
                if let Ok(trailers) = other.into_trailers() {
                    net.send(call, way, What::Trailers(Box::new(trailers)));
                }
            }
        }
    }
    net.send(call, way, What::End);
}

fn body_of(frames: Frames, reading: Option<Reading>) -> Body {
    let stream = futures_util::stream::unfold((frames, reading), |(mut frames, reading)| async {
        let frame = frames.recv().await?;
        Some((frame, (frames, reading)))
    });
    Body::new(StreamBody::new(stream))
}

/// How long the asking side waits, as gRPC writes it: a number and a unit.
fn patience(headers: &http::HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}
