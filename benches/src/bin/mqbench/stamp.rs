//! When a message was due, at the beginning of its body, so that who receives it knows how long it took. And where a stored
//! record has its body: records are walked, not decoded.

use raftmq_remoting::message::{SYS_FLAG_POSITION, sysflag};

/// Bytes: the run, and µs since it began.
pub const STAMP: usize = 16;

/// Where a record with IPv4 hosts has its body's length.
const BODY_LENGTH: usize = 84;
/// By how much an IPv6 host is longer.
const V6_MORE: usize = 12;

/// Writes over `place`, which has [`STAMP`] bytes.
pub fn write(place: &mut [u8], run_id: u64, due_us: u64) {
    place[..8].copy_from_slice(&run_id.to_be_bytes());
    place[8..STAMP].copy_from_slice(&due_us.to_be_bytes());
}

/// What `write` wrote in this run.
pub fn read(body: &[u8], run_id: u64) -> Option<u64> {
    let (run, rest) = body.split_first_chunk::<8>()?;
    let due = rest.first_chunk::<8>()?;
    (u64::from_be_bytes(*run) == run_id).then(|| u64::from_be_bytes(*due))
}

/// The bodies of the records that lie back to back; ends at the first that is none.
pub fn bodies(mut records: &[u8]) -> impl Iterator<Item = &[u8]> {
    let int = |bytes: &[u8], at: usize| {
        let field = bytes.get(at..)?.first_chunk::<4>()?;
        usize::try_from(i32::from_be_bytes(*field)).ok()
    };
    std::iter::from_fn(move || {
        let (record, rest) = records.split_at_checked(int(records, 0)?)?;
        let flags = i32::from(*record.get(SYS_FLAG_POSITION + 3)?);
        let v6 = [sysflag::BORN_HOST_V6, sysflag::STORE_HOST_V6];
        let at = BODY_LENGTH + V6_MORE * v6.iter().filter(|bit| flags & **bit != 0).count();
        let body = record.get(at + 4..)?.get(..int(record, at)?)?;
        records = rest;
        Some(body)
    })
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use raftmq_remoting::message::NewMessage;

    use super::*;

    #[test]
    fn records_are_walked_whatever_their_hosts() {
        let hosts = ["127.0.0.1:1", "[::1]:1"].map(|h| h.parse().unwrap());
        let mut records = BytesMut::new();
        let mut wanted = Vec::new();
        for (born_host, store_host) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut body = vec![0; 30 + wanted.len()];
            write(&mut body[..STAMP], 9, wanted.len() as u64);
            NewMessage {
                topic: "T".into(),
                queue_id: 0,
                flag: 0,
                sys_flag: 0,
                born_timestamp: 0,
                born_host: hosts[born_host],
                store_host: hosts[store_host],
                reconsume_times: 0,
                prepared_transaction_offset: 0,
                body: body.clone().into(),
                body_crc: 0,
                properties: Bytes::new(),
            }
            .encode_into(&mut records);
            wanted.push(body);
        }
        let found: Vec<_> = bodies(&records).collect();
        assert_eq!(found, wanted);
        for (due, body) in (0..).zip(found) {
            assert_eq!((read(body, 9), read(body, 8)), (Some(due), None));
        }
        assert_eq!(bodies(&records[..records.len() - 1]).count(), 3);
        assert_eq!(bodies(&[0; 40]).count(), 0);
    }
}
