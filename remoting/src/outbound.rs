//! The write side of a connection: frames queued by any thread, drained by the one writing task.
//!
//! Headers and small bodies are encoded into one buffer under a short lock; large bodies stay where they are and become
//! slices of their own. The writer swaps the whole batch out, so all frames that came while it was busy leave in one
//! `writev`. Two batches alternate and keep their memory.

use std::io::{self, IoSlice};

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::command::{Body, RemotingCommand, SerializeType};
use crate::frame::{self, Answer, FrameError};

/// Bodies up to this size are copied next to their header: cheaper than a slice of their own.
pub(crate) const SMALL_BODY: usize = 512;

/// Slices per write call; the kernel takes up to 1024, but more than this do not fit the socket buffer anyway.
const SLICES: usize = 64;

/// A batch that grew beyond this gives its memory back once it is written.
const KEEP_BUFFER: usize = 32 * 1024;

/// Accounted per queued frame beyond its bytes.
pub(crate) const FRAME_OVERHEAD: usize = 64;

/// What a queued frame is accounted for, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// All of it.
    pub(crate) accounted: usize,
    /// Without the parts that lie in the store anyway.
    pub(crate) heap: usize,
}

impl std::ops::AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.accounted += other.accounted;
        self.heap += other.heap;
    }
}

/// Frames waiting to be written, in order.
#[derive(Default)]
pub(crate) struct Batch {
    /// Headers and small bodies of all frames.
    buf: Vec<u8>,
    /// Large bodies, each with the length of `buf` it follows.
    bodies: Vec<(usize, Bytes)>,
    /// Opaques of the requests among the frames: they are surely not sent while the batch waits.
    requests: Vec<i32>,
    /// Accounted for this batch.
    size: Size,
    /// Next segment to write and the bytes of it already written.
    segment: usize,
    written: usize,
}

impl Batch {
    /// Adds a frame; returns what is accounted for it. Refuses a frame that is too large, unchanged.
    pub(crate) fn push(&mut self, cmd: &RemotingCommand) -> Result<Size, FrameError> {
        let start = self.buf.len();
        frame::encode_head(cmd, &mut self.buf)?;
        let own = self.buf.len() - start + FRAME_OVERHEAD;
        let body = cmd.body.len();
        let size = Size {
            accounted: own + body,
            heap: match &cmd.body {
                // Records, which are slices of the log.
                Body::Parts(_) => own,
                Body::One(_) | Body::Empty => own + body,
            },
        };
        for part in cmd.body.parts() {
            if part.len() <= SMALL_BODY {
                self.buf.extend_from_slice(part);
            } else {
                self.bodies.push((self.buf.len(), part.clone()));
            }
        }
        if !cmd.is_response() && !cmd.is_oneway() {
            self.requests.push(cmd.opaque);
        }
        self.size += size;
        Ok(size)
    }

    /// Adds an answer; as [`Self::push`].
    pub(crate) fn push_answer(
        &mut self,
        answer: &Answer<'_>,
        opaque: i32,
        serialize: SerializeType,
    ) -> Result<Size, FrameError> {
        let start = self.buf.len();
        frame::encode_answer(answer, opaque, serialize, &mut self.buf)?;
        let bytes = self.buf.len() - start + FRAME_OVERHEAD;
        let size = Size {
            accounted: bytes,
            heap: bytes,
        };
        self.size += size;
        Ok(size)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    pub(crate) fn requests(&self) -> &[i32] {
        &self.requests
    }

    /// What is accounted for the frames of this batch.
    pub(crate) fn size(&self) -> Size {
        self.size
    }

    /// Empties the batch for its next use.
    pub(crate) fn clear(&mut self) {
        if self.buf.capacity() > KEEP_BUFFER
            || self.bodies.capacity() + self.requests.capacity() > 4096
        {
            *self = Self::default();
        } else {
            self.buf.clear();
            self.bodies.clear();
            self.requests.clear();
            (self.size, self.segment, self.written) = (Size::default(), 0, 0);
        }
    }

    /// Even segments are runs of `buf`, odd ones the bodies between them.
    fn segment(&self, i: usize) -> Option<&[u8]> {
        let (body, is_body) = (i / 2, i % 2 == 1);
        if is_body {
            return Some(&self.bodies.get(body)?.1);
        }
        if body > self.bodies.len() {
            return None;
        }
        let from = if body == 0 {
            0
        } else {
            self.bodies[body - 1].0
        };
        let to = self.bodies.get(body).map_or(self.buf.len(), |(at, _)| *at);
        Some(&self.buf[from..to])
    }

    fn slices<'a>(&'a self, out: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut n = 0;
        let mut skip = self.written;
        for i in self.segment.. {
            let Some(bytes) = self.segment(i) else { break };
            if bytes.len() > skip {
                out[n] = IoSlice::new(&bytes[skip..]);
                n += 1;
                if n == SLICES {
                    break;
                }
            }
            skip = 0;
        }
        n
    }

    fn advance(&mut self, mut n: usize) {
        while let Some(bytes) = self.segment(self.segment) {
            let left = bytes.len() - self.written;
            if n < left {
                self.written += n;
                return;
            }
            n -= left;
            self.segment += 1;
            self.written = 0;
        }
    }

    /// Writes everything; `progress` is told after each write call.
    pub(crate) async fn write_to<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        mut progress: impl FnMut(),
    ) -> io::Result<()> {
        loop {
            let written = {
                let mut slices = [IoSlice::new(&[]); SLICES];
                match self.slices(&mut slices) {
                    0 => return Ok(()),
                    n => io.write_vectored(&slices[..n]).await?,
                }
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.advance(written);
            progress();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;
    use crate::command::Body;
    use crate::frame::Value;

    /// Takes a few bytes at a time.
    struct Trickle(Vec<u8>, usize);

    impl AsyncWrite for Trickle {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            let n = buf.len().min(self.1);
            self.0.extend_from_slice(&buf[..n]);
            Poll::Ready(Ok(n))
        }
        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
            self.poll_write(cx, &all)
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_batch_writes_the_same_bytes_as_encode() {
        let part = |b: u8, n: usize| Bytes::from(vec![b; n]);
        let bodies = [
            Body::Empty,
            Body::One(part(1, 10)),
            Body::One(part(2, 5000)),
            Body::Parts(vec![part(3, 600), part(4, 1), Bytes::new(), part(5, 700)]),
            Body::Parts((0..200).map(|i| part(i, 513)).collect()),
            Body::One(part(6, SMALL_BODY)),
        ];
        for step in [1, 7, 1000, usize::MAX] {
            let mut batch = Batch::default();
            let mut wanted = Vec::new();
            for (i, body) in bodies.iter().enumerate() {
                let mut cmd = RemotingCommand::request(i as i32).with_ext("k", "v");
                cmd.body = body.clone();
                batch.push(&cmd).unwrap();
                frame::encode(&cmd, &mut wanted).unwrap();
            }
            let mut io = Trickle(Vec::new(), step);
            batch.write_to(&mut io, || ()).await.unwrap();
            assert_eq!(io.0, wanted);
            batch.clear();
            assert!(batch.is_empty());
        }
    }

    #[tokio::test]
    async fn an_answer_is_written_as_the_command_it_stands_for() {
        let fields = [
            ("msgId", Value::Text("7F\"\u{1}\n")),
            ("queueOffset", Value::Number(-9_000_000_000)),
        ];
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            let (mut batch, mut wanted) = (Batch::default(), Vec::new());
            let answer = Answer {
                code: 12,
                fields: &fields,
            };
            batch.push_answer(&answer, 77, serialize).unwrap();
            let command = RemotingCommand {
                opaque: 77,
                serialize,
                ..RemotingCommand::response(12)
            };
            let command = command
                .with_ext("msgId", "7F\"\u{1}\n")
                .with_ext("queueOffset", "-9000000000");
            frame::encode(&command, &mut wanted).unwrap();
            let mut io = Trickle(Vec::new(), usize::MAX);
            batch.write_to(&mut io, || ()).await.unwrap();
            assert_eq!(io.0, wanted);
        }
    }

    #[test]
    fn a_frame_beyond_the_limit_leaves_the_batch_unchanged() {
        let mut batch = Batch::default();
        let big = RemotingCommand::request(1).with_body(vec![0; frame::MAX_FRAME_LENGTH]);
        assert!(matches!(batch.push(&big), Err(FrameError::TooLarge(_))));
        assert!(batch.is_empty());
    }
}
