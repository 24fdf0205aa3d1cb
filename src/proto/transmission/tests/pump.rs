//! [`Pending`] as a pump uses it: data are read straight to where they belong,
//! and one value serves one request after the other.

use super::*;

const STYLE: HeaderStyle = HeaderStyle::Extended;

fn request(command: Command, flags: CommandFlags, cookie: u64) -> Request {
    Request {
        command,
        flags,
        cookie,
        offset: 4096,
        length: 512,
    }
}

/// Reads one message into `buffer`, as if it came from a socket.
fn pump(
    pending: &mut Pending,
    message: &[u8],
    buffer: &mut [u8],
) -> Result<Option<Outcome>, Fault> {
    let (header, payload) = message.split_at(header_len(STYLE, message)?);
    let announced = pending.header(&ReplyHeader::parse(STYLE, header)?)?;
    assert_eq!(announced.payload_len(), payload.len() as u64);
    let (prefix, bulk) = payload.split_at(announced.prefix_len());
    let end = match pending.prefix(announced, prefix)? {
        Body::Data { at, length, end } => {
            assert_eq!(length, bulk.len() as u64);
            buffer[usize::try_from(at).unwrap()..][..bulk.len()].copy_from_slice(bulk);
            end
        }
        Body::Hole { at, length, end } => {
            let at = usize::try_from(at).unwrap();
            buffer[at..][..usize::try_from(length).unwrap()].fill(0);
            end
        }
        Body::Nothing(end) | Body::Error { end, .. } => end,
        Body::Extents(_) => panic!("nobody asked for extents"),
    };
    pending.end(end)
}

fn message(request: &Request, kind: ChunkType, flags: ChunkFlags, payload: &[u8]) -> Vec<u8> {
    chunk(STYLE, request, kind, flags, payload)
}

#[test]
fn data_go_straight_to_their_place() {
    let read = request(Command::READ, CommandFlags::NONE, 1);
    let mut pending = Pending::new(&read, terms(STYLE)).unwrap();
    let mut buffer = [9; 512];
    let payload = hole_payload(4096 + 256, 256);
    let hole = message(&read, ChunkType::OFFSET_HOLE, MORE, &payload);
    assert_eq!(pump(&mut pending, &hole, &mut buffer), Ok(None));
    let data = message(
        &read,
        ChunkType::OFFSET_DATA,
        DONE,
        &data_payload(4096, 256),
    );
    let end = pump(&mut pending, &data, &mut buffer);
    assert_eq!(end, Ok(Some(Outcome::Good)));
    assert_eq!(buffer[..256], data_at(4096, 256));
    assert_eq!(buffer[256..], [0; 256]);
}

#[test]
fn a_renewed_request_remembers_nothing_of_the_one_before() {
    let first = request(Command::READ, CommandFlags::DF, 1);
    let mut pending = Pending::new(&first, terms(STYLE)).unwrap();
    let mut buffer = [0; 512];
    let data = message(
        &first,
        ChunkType::OFFSET_DATA,
        MORE,
        &data_payload(4200, 100),
    );
    assert_eq!(pump(&mut pending, &data, &mut buffer), Ok(None));
    let error = message(&first, ChunkType::ERROR, DONE, &error_payload(5, "", &[]));
    let failed = Ok(Some(Outcome::Failed(ErrorCode::EIO)));
    assert_eq!(pump(&mut pending, &error, &mut buffer), failed);
    let again = pump(&mut pending, &error, &mut buffer);
    assert_eq!(again, Err(Fault::RepeatedDone { cookie: 1 }));

    let second = request(Command::READ, CommandFlags::DF, 2);
    pending.renew(&second).unwrap();
    let late = pump(&mut pending, &data, &mut buffer);
    assert_eq!(late, Err(Fault::UnknownCookie { cookie: 1 }));
    let data = message(
        &second,
        ChunkType::OFFSET_DATA,
        DONE,
        &data_payload(4096, 512),
    );
    let end = pump(&mut pending, &data, &mut buffer);
    assert_eq!(end, Ok(Some(Outcome::Good)));

    let trim = request(Command::TRIM, CommandFlags::NONE, 3);
    pending.renew(&trim).unwrap();
    let none = message(&trim, ChunkType::NONE, DONE, &[]);
    let end = pump(&mut pending, &none, &mut buffer);
    assert_eq!(end, Ok(Some(Outcome::Good)));
}

#[test]
fn a_renewal_that_is_refused_changes_nothing() {
    let read = request(Command::READ, CommandFlags::NONE, 1);
    let mut pending = Pending::new(&read, terms(STYLE)).unwrap();
    for command in [Command::DISC, Command::BLOCK_STATUS, Command(99)] {
        let refused = pending.renew(&request(command, CommandFlags::NONE, 2));
        assert!(refused.is_err(), "{command}");
    }
    assert_eq!(pending.request(), &read);
}

#[test]
fn no_header_makes_a_pump_collect_more_than_its_buffer() {
    let read = request(Command::READ, CommandFlags::NONE, 1);
    for kind in (0..=8).chain(0x8000..0x8008).map(ChunkType) {
        for length in [
            0,
            1,
            6,
            8,
            9,
            12,
            14,
            520,
            521,
            8192,
            8193,
            1 << 32,
            u64::MAX,
        ] {
            let mut pending = Pending::new(&read, terms(STYLE)).unwrap();
            let header = ReplyHeader::Extended(ExtendedChunk {
                flags: DONE,
                kind,
                cookie: 1,
                offset: 4096,
                length,
            });
            if let Ok(announced) = pending.header(&header) {
                assert!(announced.prefix_len() <= MAX_PREFIX);
                assert!(announced.payload_len() <= 8192, "{kind} of {length}");
            }
        }
    }
}
