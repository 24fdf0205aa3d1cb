//! Random streams: what is legal always ends in the right values, whatever the
//! order and the cuts; what is not never ends in wrong ones.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestRng;

use super::*;

/// The sum of what a session gave of one request.
#[derive(Debug, Default)]
struct Got {
    /// Each byte of the request, once it came.
    bytes: Vec<Option<u8>>,
    contexts: Vec<(u32, Vec<Extent>)>,
    errors: usize,
    outcome: Option<Outcome>,
}

/// A small source of choices, so that a failing case is one number.
struct Dice(TestRng);

impl Dice {
    fn new(seed: [u8; 32]) -> Self {
        let algorithm = proptest::test_runner::RngAlgorithm::ChaCha;
        Self(TestRng::from_seed(algorithm, &seed))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            let other = usize::try_from(self.below(index as u64 + 1)).unwrap();
            items.swap(index, other);
        }
    }
}

/// Cuts a length into pieces that are never empty.
fn cut(dice: &mut Dice, length: u64) -> Vec<(u64, u64)> {
    let most = 1 + dice.below(length);
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < length {
        let piece = (1 + dice.below(most)).min(length - at);
        pieces.push((at, piece));
        at += piece;
    }
    pieces
}

/// A request of any kind that is answered.
fn ask(dice: &mut Dice, replies: &mut Replies, style: HeaderStyle) -> Request {
    let commands = [
        Command::READ,
        Command::READ,
        Command::READ,
        Command::WRITE,
        Command::FLUSH,
        Command::TRIM,
        Command::WRITE_ZEROES,
        Command::CACHE,
        Command::BLOCK_STATUS,
    ];
    let kinds = if style == HeaderStyle::Compact { 8 } else { 9 };
    let command = commands[usize::try_from(dice.below(kinds)).unwrap()];
    let (offset, length) = match command {
        Command::FLUSH => (0, 0),
        _ => (dice.below(1 << 40), 1 + dice.below(300)),
    };
    let flags = match command {
        Command::READ if style != HeaderStyle::Compact && dice.below(4) == 0 => CommandFlags::DF,
        Command::BLOCK_STATUS if dice.below(3) == 0 => CommandFlags::REQ_ONE,
        _ => CommandFlags::NONE,
    };
    replies.begin(command, flags, offset, length).unwrap()
}

/// The messages of a legal answer, and whether it is a good one.
fn answer(dice: &mut Dice, style: HeaderStyle, request: &Request) -> (Vec<Vec<u8>>, bool) {
    let fails = dice.below(5) == 0;
    let read = request.command == Command::READ;
    let by_chunks = request.command == Command::BLOCK_STATUS || read || dice.below(2) == 0;
    if style == HeaderStyle::Compact || (style == HeaderStyle::Structured && !by_chunks) {
        let mut reply = simple(request, if fails { 5 } else { 0 });
        if read && !fails {
            reply.extend(data_at(request.offset, request.length));
        }
        return (vec![reply], !fails);
    }
    let mut pieces = match request.command {
        Command::READ => content(dice, request),
        Command::BLOCK_STATUS => statuses(dice, style, request),
        _ => Vec::new(),
    };
    dice.shuffle(&mut pieces);
    if fails {
        let keep = usize::try_from(dice.below(pieces.len() as u64 + 1)).unwrap();
        pieces.truncate(keep);
        let code = u32::try_from(1 + dice.below(200)).unwrap();
        let message = error_payload(code, "it broke", &[]);
        let kind = [ChunkType::ERROR, ChunkType(0x9000)][usize::try_from(dice.below(2)).unwrap()];
        pieces.push((kind, message));
    }
    if pieces.is_empty() || dice.below(2) == 0 {
        pieces.push((ChunkType::NONE, Vec::new()));
    }
    let last = pieces.len() - 1;
    // Flags that do not exist yet are ignored.
    let unknown = u16::try_from(dice.below(100)).unwrap() << 1;
    let messages = pieces.iter().enumerate().map(|(index, (kind, payload))| {
        let flags = ChunkFlags(unknown | u16::from(index == last));
        chunk(style, request, *kind, flags, payload)
    });
    (messages.collect(), !fails)
}

fn content(dice: &mut Dice, request: &Request) -> Vec<(ChunkType, Vec<u8>)> {
    let pieces = if request.flags.contains(CommandFlags::DF) {
        vec![(0, request.length)]
    } else {
        cut(dice, request.length)
    };
    let chunks = pieces.into_iter().map(|(at, length)| {
        let offset = request.offset + at;
        if dice.below(3) == 0 {
            let length = u32::try_from(length).unwrap();
            (ChunkType::OFFSET_HOLE, hole_payload(offset, length))
        } else {
            (ChunkType::OFFSET_DATA, data_payload(offset, length))
        }
    });
    chunks.collect()
}

fn statuses(dice: &mut Dice, style: HeaderStyle, request: &Request) -> Vec<(ChunkType, Vec<u8>)> {
    let contexts = [NARROW.id, WIDE.id].map(|context| {
        let mut extents: Vec<(u64, u64)> = cut(dice, request.length)
            .into_iter()
            .map(|(_, length)| (length, dice.below(4)))
            .collect();
        if request.flags.contains(CommandFlags::REQ_ONE) || dice.below(3) == 0 {
            extents.truncate(1);
        } else if let Some((length, _)) = extents.last_mut() {
            *length += dice.below(1 << 31);
        }
        status_chunk(style, context, &extents)
    });
    contexts.to_vec()
}

/// Puts the messages of all answers into one stream, each answer in order.
fn interleave(dice: &mut Dice, answers: Vec<Vec<Vec<u8>>>) -> Vec<Vec<u8>> {
    let mut queues: Vec<_> = answers.into_iter().map(Vec::into_iter).collect();
    let mut stream = Vec::new();
    while !queues.is_empty() {
        let index = usize::try_from(dice.below(queues.len() as u64)).unwrap();
        match queues[index].next() {
            Some(message) => stream.push(message),
            None => drop(queues.swap_remove(index)),
        }
    }
    stream
}

/// Feeds in random cuts, and takes events between them.
fn feed_at_random(
    dice: &mut Dice,
    replies: &mut Replies,
    mut stream: &[u8],
) -> (Vec<(u64, Event)>, Result<(), Fault>) {
    let mut all = Vec::new();
    let most = 1 + dice.below(stream.len() as u64 + 1);
    while !stream.is_empty() {
        let length = usize::try_from(1 + dice.below(most))
            .unwrap()
            .min(stream.len());
        let (head, rest) = stream.split_at(length);
        stream = rest;
        let result = replies.handle_input(head);
        all.extend(events(replies));
        if result.is_err() {
            return (all, result);
        }
    }
    (all, Ok(()))
}

/// Sums up, and holds every event to its request: nothing outside, nothing
/// twice, nothing behind the end.
fn sum_up(requests: &[Request], events: Vec<(u64, Event)>) -> BTreeMap<u64, Got> {
    let mut sums = BTreeMap::new();
    for request in requests {
        let read = request.command == Command::READ;
        let length = if read { request.length } else { 0 };
        let bytes = vec![None; usize::try_from(length).unwrap()];
        sums.insert(
            request.cookie,
            (
                request,
                Got {
                    bytes,
                    ..Got::default()
                },
            ),
        );
    }
    for (cookie, event) in events {
        let (request, got) = sums.get_mut(&cookie).unwrap();
        assert_eq!(got.outcome, None, "{event:?} behind the end");
        match event {
            Event::Data { offset, bytes } => put(request, got, offset, &bytes),
            Event::Hole { offset, length } => {
                put(
                    request,
                    got,
                    offset,
                    &vec![0; usize::try_from(length).unwrap()],
                );
            }
            Event::Extents { context, extents } => {
                assert!(got.contexts.iter().all(|(id, _)| *id != context));
                assert!(extents.iter().all(|extent| extent.length > 0));
                got.contexts.push((context, extents));
            }
            Event::Error { .. } => got.errors += 1,
            Event::Done(outcome) => got.outcome = Some(outcome),
        }
    }
    sums.into_iter()
        .map(|(cookie, (_, got))| (cookie, got))
        .collect()
}

fn put(request: &Request, got: &mut Got, offset: u64, bytes: &[u8]) {
    let at = usize::try_from(offset - request.offset).unwrap();
    for (place, byte) in got.bytes[at..at + bytes.len()].iter_mut().zip(bytes) {
        assert_eq!(place.replace(*byte), None, "a byte came twice");
    }
}

/// A request that ended well has all that it asked for.
fn is_complete(request: &Request, got: &Got) -> bool {
    let contexts = match request.command {
        Command::BLOCK_STATUS => 2,
        _ => 0,
    };
    got.errors == 0 && got.contexts.len() == contexts && !got.bytes.contains(&None)
}

struct Case {
    replies: Replies,
    requests: Vec<Request>,
    good: BTreeMap<u64, bool>,
    messages: Vec<Vec<u8>>,
}

fn case(dice: &mut Dice, style: HeaderStyle) -> Case {
    let mut replies = session(style);
    let (mut requests, mut answers, mut good) = (Vec::new(), Vec::new(), BTreeMap::new());
    for _ in 0..1 + dice.below(6) {
        let request = ask(dice, &mut replies, style);
        let (messages, is_good) = answer(dice, style, &request);
        requests.push(request);
        answers.push(messages);
        good.insert(request.cookie, is_good);
    }
    Case {
        messages: interleave(dice, answers),
        replies,
        requests,
        good,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_legal_stream_ends_in_the_right_values(style in 0usize..3, seed: [u8; 32]) {
        let mut dice = Dice::new(seed);
        let mut case = case(&mut dice, STYLES[style]);
        let stream = case.messages.concat();
        let (events, result) = feed_at_random(&mut dice, &mut case.replies, &stream);
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(case.replies.handle_eof(), Ok(()));
        let sums = sum_up(&case.requests, events);
        for request in &case.requests {
            let got = &sums[&request.cookie];
            let good = case.good[&request.cookie];
            prop_assert_eq!(got.outcome == Some(Outcome::Good), good);
            prop_assert!(got.outcome.is_some());
            prop_assert!(!good || is_complete(request, got));
            for (at, byte) in got.bytes.iter().enumerate() {
                let expected = byte_at(request.offset + at as u64);
                prop_assert!(matches!(byte, None | Some(0)) || *byte == Some(expected));
            }
        }
    }

    /// One byte of one message's first 60 is another, where headers and fixed
    /// fields are; or one message is lost, doubled, or cut.
    #[test]
    fn a_broken_stream_is_still_legal_or_ends_in_a_fault(
        style in 0usize..3, seed: [u8; 32], how in 0u8..10,
    ) {
        let mut dice = Dice::new(seed);
        let mut case = case(&mut dice, STYLES[style]);
        let index = usize::try_from(dice.below(case.messages.len() as u64)).unwrap();
        match how {
            0 => drop(case.messages.remove(index)),
            1 => case.messages.insert(index, case.messages[index].clone()),
            2 => drop(case.messages[index].pop()),
            _ => {
                let message = &mut case.messages[index];
                let at = dice.below(message.len().min(60) as u64);
                let bit = 1 << dice.below(8);
                message[usize::try_from(at).unwrap()] ^= bit;
            }
        }
        let stream = case.messages.concat();
        let (events, result) = feed_at_random(&mut dice, &mut case.replies, &stream);
        let end = case.replies.handle_eof();
        let sums = sum_up(&case.requests, events);
        for request in &case.requests {
            let got = &sums[&request.cookie];
            prop_assert!(got.outcome.is_some() || end.is_err());
            prop_assert!(got.outcome != Some(Outcome::Good) || is_complete(request, got));
            let waits = case.replies.outstanding().any(|cookie| cookie == request.cookie);
            prop_assert_eq!(waits, got.outcome.is_none());
        }
        if let Err(fault) = result {
            prop_assert_eq!(Err(fault.clone()), end);
            let text = fault.to_string();
            prop_assert!(!text.is_empty() && !text.ends_with('.'));
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_keep_more_than_it_was_given(
        style in 0usize..3, bytes: Vec<u8>, head in 0usize..4,
    ) {
        let mut replies = session(STYLES[style]);
        replies.begin(Command::READ, CommandFlags::NONE, 0, 512).unwrap();
        let magic: &[u8] = [
            &[][..], &[0x67, 0x44, 0x66, 0x98], &[0x66, 0x8e, 0x33, 0xef], &[0x6e, 0x8a, 0x27, 0x8c],
        ][head];
        let _ = replies.handle_input(&[magic, &bytes].concat());
        let _ = replies.handle_eof();
    }
}

#[test]
fn thousands_of_shuffled_chunks_are_put_together_quickly() {
    let style = HeaderStyle::Extended;
    let mut dice = Dice::new([7; 32]);
    let mut replies = session(style);
    let length = 8000 * 512;
    let request = replies
        .begin(Command::READ, CommandFlags::NONE, 512, length)
        .unwrap();
    let mut places: Vec<u64> = (0..8000).collect();
    dice.shuffle(&mut places);
    for (count, place) in (1..).zip(&places) {
        let flags = ChunkFlags(u16::from(count == places.len()));
        let payload = hole_payload(512 + place * 512, 512);
        let message = chunk(style, &request, ChunkType::OFFSET_HOLE, flags, &payload);
        replies.handle_input(&message).unwrap();
    }
    assert_eq!(events(&mut replies).len(), 8001);
    assert_eq!(replies.handle_eof(), Ok(()));
}
