//! `FrameReader`: cuts a byte stream into frames.
//!
//! Runs on the connection's read task. Memory follows the bytes that arrive, not what a length field promises: an idle
//! connection holds no buffer, and a frame's buffer doubles as the frame comes in.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{FrameError, MAX_FRAME_LENGTH};

/// First buffer of a connection, in bytes: thousands of slow ones must be cheap.
pub const INITIAL_READ_BUFFER: usize = 4 * 1024;
/// Largest single read while requests stream in, in bytes; more does not lower the cost of a read call.
pub const MAX_READ_CHUNK: usize = 32 * 1024;

/// First length byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// Reads frames off `R`.
pub struct FrameReader<R> {
    io: R,
    buf: BytesMut,
    /// Room offered to the next read; follows how full the last ones were.
    chunk: usize,
    /// Told the buffer's bytes when it grows around the part of a frame.
    grown: Option<Grown>,
}

type Grown = Box<dyn Fn(usize) + Send>;

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(io: R) -> Self {
        Self {
            io,
            buf: BytesMut::new(),
            chunk: INITIAL_READ_BUFFER,
            grown: None,
        }
    }

    /// Tells `grown` the bytes of buffer when they become more around a frame that is arriving.
    pub fn telling(self, grown: impl Fn(usize) + Send + 'static) -> Self {
        Self {
            grown: Some(Box::new(grown)),
            ..self
        }
    }

    /// The next frame without its length field, if its bytes are all here.
    pub fn buffered(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.announced()? else {
            return Ok(None);
        };
        if self.buf.len() < 4 + length {
            return Ok(None);
        }
        self.buf.advance(4);
        Ok(Some(self.buf.split_to(length).freeze()))
    }

    fn announced(&self) -> Result<Option<usize>, FrameError> {
        let Some(head) = self.buf.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*head);
        if (4..=MAX_FRAME_LENGTH as i32).contains(&length) {
            return Ok(Some(length as usize));
        }
        Err(match head {
            [TLS_HANDSHAKE, ..] => FrameError::Tls,
            b"PRI " => FrameError::Http2,
            b"GET " | b"HEAD" | b"POST" | b"PUT " | b"OPTI" | b"CONN" => FrameError::Http,
            _ => FrameError::Length(length),
        })
    }

    /// Waits for the next frame; `None` when the peer closed between two frames.
    ///
    /// Dropping the future loses nothing: bytes read so far stay in the buffer.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            if self.fill().await? == 0 {
                return if self.buf.is_empty() {
                    Ok(None)
                } else {
                    Err(FrameError::UnexpectedEnd)
                };
            }
        }
    }

    /// One read; returns its bytes, 0 at the end of the stream.
    pub async fn fill(&mut self) -> Result<usize, FrameError> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, FrameError>> {
        let missing = self
            .announced()?
            .map_or(0, |length| (4 + length).saturating_sub(self.buf.len()));
        if self.make_room(missing)
            && let Some(grown) = self.grown.as_ref().filter(|_| !self.buf.is_empty())
        {
            grown(self.buf.capacity());
        }
        let offered = self.spare();
        match pin!(self.io.read_buf(&mut self.buf)).poll(cx) {
            Poll::Ready(Ok(read)) => {
                if read >= self.chunk && read >= offered {
                    self.chunk = (self.chunk * 2).min(MAX_READ_CHUNK);
                } else if read < self.chunk / 4 {
                    self.chunk = (self.chunk / 2).max(INITIAL_READ_BUFFER);
                }
                Poll::Ready(Ok(read))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e.into())),
            Poll::Pending => {
                if self.buf.is_empty() {
                    // Nothing to keep while the connection waits; the next wake-up brings a new buffer.
                    self.buf = BytesMut::new();
                }
                Poll::Pending
            }
        }
    }

    /// Room for the next read, `missing` bytes of a frame being still to come; whether the buffer is another one now.
    fn make_room(&mut self, missing: usize) -> bool {
        let len = self.buf.len();
        let large = len + missing > 2 * MAX_READ_CHUNK && missing > 0;
        let enough = match large {
            true => missing.min(self.chunk),
            false => self.chunk.min(INITIAL_READ_BUFFER.max(missing)),
        };
        if self.spare() >= enough {
            return false;
        }
        if !large {
            self.buf.reserve(self.chunk);
            return true;
        }
        // A large frame's buffer grows by what has arrived of it, so its size says nothing the peer did not pay for, and never
        // beyond the frame: doubled once too often, one of 16 MiB would have 32.
        let wanted = (2 * len).max(len + self.chunk).min(len + missing);
        let mut larger = BytesMut::with_capacity(wanted);
        larger.extend_from_slice(&self.buf);
        self.buf = larger;
        true
    }

    fn spare(&self) -> usize {
        self.buf.capacity() - self.buf.len()
    }

    /// Whether no bytes wait to be cut into frames.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// Bytes of buffer held now.
    pub fn buffer_capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// The stream, for tests and for handing it to another protocol before the first read.
    pub fn into_inner(self) -> R {
        self.io
    }
}
