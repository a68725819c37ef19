//! A connection as bytes: one buffer that is read into, and requests that leave with as few writes as the kernel allows.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use raftmq_remoting::frame::MAX_FRAME_LENGTH;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What one read takes at most, bytes; a frame that is longer gets the room it needs.
const READ_BUFFER: usize = 64 << 10;
/// Bodies up to this size are copied behind their head; a write of many pieces costs more than that.
const COPIED_BODY: usize = 8 << 10;
/// Pieces of one vectored write.
const PIECES: usize = 64;
/// What was written is dropped from the buffer when it is more than this and more than half of it, bytes.
const WRITTEN_KEPT: usize = 256 << 10;

/// An open connection.
pub struct Link {
    stream: TcpStream,
    input: Vec<u8>,
    filled: usize,
    pub out: Outbox,
}

impl Link {
    /// `tail` follows the head of every request.
    pub fn new(stream: TcpStream, tail: Bytes) -> Self {
        Self {
            stream,
            input: vec![0; READ_BUFFER],
            filled: 0,
            out: Outbox::new(tail),
        }
    }

    /// One read.
    ///
    /// # Errors
    /// The connection is at its end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffer = ReadBuf::new(&mut self.input[self.filled..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let count = buffer.filled().len();
        self.filled += count;
        Poll::Ready(match count {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        })
    }

    /// Hands out the frames that are complete, without their length.
    ///
    /// # Errors
    /// A length is impossible.
    pub fn frames(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let (mut at, mut wanted) = (0, 0);
        while let Some(length) = self.input[at..self.filled].first_chunk() {
            let length = u32::from_be_bytes(*length) as usize;
            if !(4..=MAX_FRAME_LENGTH).contains(&length) {
                return Err(ErrorKind::InvalidData.into());
            }
            let end = at + 4 + length;
            if end > self.filled {
                wanted = 4 + length;
                break;
            }
            each(&self.input[at + 4..end]);
            at = end;
        }
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        if self.input.len() < wanted {
            self.input.resize(wanted, 0);
        }
        Ok(())
    }

    /// Writes; ready when nothing is left.
    ///
    /// # Errors
    /// The connection is at its end.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let count = self.out.pieces(&mut pieces);
            let stream = Pin::new(&mut self.stream);
            let written = ready!(stream.poll_write_vectored(cx, &pieces[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

/// Requests to write. All have the same tail, the body or the rest of it: a short one is copied, a long one is written from
/// where it is.
pub struct Outbox {
    heads: Vec<u8>,
    /// How much of `heads` is written.
    written: usize,
    /// Where heads end that a tail follows.
    ends: VecDeque<usize>,
    /// How much is written of the tail that is next.
    tail_written: usize,
    tail: Bytes,
}

impl Outbox {
    pub fn new(tail: Bytes) -> Self {
        Self {
            heads: Vec::new(),
            written: 0,
            ends: VecDeque::new(),
            tail_written: 0,
            tail,
        }
    }

    /// Heads, and tails that are copied, which are not written yet.
    #[cfg(test)]
    pub fn unwritten(&self) -> &[u8] {
        &self.heads[self.written..]
    }

    fn copies(&self) -> bool {
        self.tail.len() <= COPIED_BODY
    }

    /// Adds a request; its head, to be completed.
    pub fn push(&mut self, head: &[u8]) -> &mut [u8] {
        if self.written > WRITTEN_KEPT && self.written > self.heads.len() / 2 {
            self.heads.drain(..self.written);
            self.ends.iter_mut().for_each(|end| *end -= self.written);
            self.written = 0;
        }
        let start = self.heads.len();
        self.heads.extend_from_slice(head);
        let end = self.heads.len();
        if self.copies() {
            self.heads.extend_from_slice(&self.tail);
        } else {
            self.ends.push_back(end);
        }
        &mut self.heads[start..end]
    }

    pub fn is_empty(&self) -> bool {
        self.written == self.heads.len() && self.ends.is_empty()
    }

    /// What comes next; how many pieces.
    fn pieces<'a>(&'a self, pieces: &mut [IoSlice<'a>; PIECES]) -> usize {
        if self.copies() {
            pieces[0] = IoSlice::new(&self.heads[self.written..]);
            return 1;
        }
        let (mut start, mut tail_start) = (self.written, self.tail_written);
        let mut count = 0;
        for (pair, end) in pieces.chunks_exact_mut(2).zip(&self.ends) {
            pair[0] = IoSlice::new(&self.heads[start..*end]);
            pair[1] = IoSlice::new(&self.tail[tail_start..]);
            (start, tail_start) = (*end, 0);
            count += 2;
        }
        count
    }

    fn advance(&mut self, mut written: usize) {
        if self.copies() {
            self.written += written;
        }
        while let (false, Some(end)) = (self.copies() || written == 0, self.ends.front()) {
            let of_head = written.min(end - self.written);
            self.written += of_head;
            let of_tail = (written - of_head).min(self.tail.len() - self.tail_written);
            self.tail_written += of_tail;
            written -= of_head + of_tail;
            if self.tail_written == self.tail.len() {
                self.tail_written = 0;
                self.ends.pop_front();
            }
        }
        if self.is_empty() {
            self.heads.clear();
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything an outbox holds, taken in steps of `step` bytes.
    fn drained(mut out: Outbox, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !out.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let count = out.pieces(&mut pieces);
            let next: Vec<u8> = pieces[..count].iter().flat_map(|p| p.to_vec()).collect();
            let taken = next.len().min(step);
            all.extend_from_slice(&next[..taken]);
            out.advance(taken);
        }
        all
    }

    #[test]
    fn requests_leave_in_order_however_little_is_written_at_once() {
        for length in [0, 3, COPIED_BODY + 5] {
            let tail: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let mut wanted = Vec::new();
            for number in 0..80_u8 {
                wanted.extend_from_slice(&[number, 7, number]);
                wanted.extend_from_slice(&tail);
            }
            for step in [1, 2, 1000, COPIED_BODY + 8, 1 << 20] {
                if step < 1000 && length > 3 {
                    continue;
                }
                let mut out = Outbox::new(tail.clone().into());
                for number in 0..80 {
                    out.push(&[0, 7, number])[0] = number;
                }
                assert!(drained(out, step) == wanted, "tail {length}, step {step}");
            }
        }
    }

    #[test]
    fn what_is_written_is_forgotten() {
        let mut out = Outbox::new(vec![1; 1000].into());
        for _ in 0..10_000 {
            out.push(&[0; 24]);
            out.push(&[0; 24]);
            out.advance(1024);
            if out.heads.len() > 1 << 20 {
                out.advance(1 << 19);
            }
        }
        assert!(out.heads.len() < 4 << 20, "{}", out.heads.len());
    }
}
