//! Senders that set no marks: which pictures go out with their last byte, and what a mistake costs.

use super::*;
use crate::format::ps::ends::EVEN_PICTURES;

/// How a picture is put into PES packets.
#[derive(Clone, Copy, Debug)]
enum Packing {
    /// One.
    Whole,
    /// Full ones of that size, the first smaller by so much, and the rest.
    Filled(usize, usize),
    /// Of those sizes in turn, and the rest.
    Uneven(&'static [usize]),
    /// One for each slice.
    Apart,
}

/// A picture: its slices, in bytes. The first and every tenth one is a keyframe.
fn slices(number: usize, sizes: &[usize]) -> Vec<Vec<u8>> {
    let header = if number.is_multiple_of(10) { 0x65 } else { 0x41 };
    // ue(0), the first macroblock, is a one; ue(1) is 010.
    let slice = |(at, size): (usize, &usize)| {
        let front = [header, if at == 0 { 0x88 } else { 0x44 }, number as u8, at as u8 | 0x80];
        [&front[..], &vec![0x55; size.saturating_sub(4)]].concat()
    };
    sizes.iter().enumerate().map(slice).collect()
}

fn canonical(slices: &[Vec<u8>]) -> Vec<u8> {
    slices.iter().flat_map(|slice| [&(slice.len() as u32).to_be_bytes()[..], slice].concat()).collect()
}

/// What is sent of a picture.
fn packed(packing: Packing, lengths: Lengths, sets: &[Vec<u8>], number: usize, slices: &[Vec<u8>]) -> Vec<u8> {
    let time = START + 3_600 * number as u64;
    let sets = if number.is_multiple_of(10) { sets } else { &[] };
    let whole = annex_b(sets, &canonical(slices));
    let pieces: Vec<Vec<u8>> = match packing {
        Packing::Whole => vec![whole],
        Packing::Apart => {
            let rest = slices[1..].iter().map(|slice| annex_b(&[], &canonical(std::slice::from_ref(slice))));
            std::iter::once(annex_b(sets, &canonical(&slices[..1]))).chain(rest).collect()
        }
        Packing::Filled(size, less) => cut(&whole, std::iter::once(size - less).chain(std::iter::repeat(size))),
        Packing::Uneven(sizes) => cut(&whole, sizes.iter().copied().cycle().skip(number)),
    };
    let mut out = PLAIN.picture(number == 0, time, time, &[]);
    for (at, piece) in pieces.iter().enumerate() {
        out.extend_from_slice(&pes(ps_writer::VIDEO_ID, (at == 0).then_some((time, time)), piece, lengths));
    }
    out
}

fn cut(mut bytes: &[u8], sizes: impl Iterator<Item = usize>) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    for size in sizes {
        let (piece, rest) = bytes.split_at(size.min(bytes.len()));
        pieces.push(piece.to_vec());
        bytes = rest;
        if bytes.is_empty() {
            break;
        }
    }
    pieces
}

/// What became of a stream.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    /// The numbers of the pictures that were not there with their last byte.
    late: Vec<usize>,
    /// How many pictures were not given out as they were sent.
    broken: usize,
    discarded: usize,
}

/// Sends pictures of slices of those sizes, in pieces of a datagram's.
fn run(packing: Packing, lengths: Lengths, pictures: &[Vec<usize>], piece: usize) -> Outcome {
    let sets = clip(H264_FILE).sets;
    let (mut demuxer, mut out, mut outcome) = (PsDemuxer::new(OnLoss::Pass), Vec::new(), Outcome::default());
    let mut sent = Vec::new();
    for (number, sizes) in pictures.iter().enumerate() {
        let slices = slices(number, sizes);
        sent.push(canonical(&slices));
        for piece in packed(packing, lengths, &sets, number, &slices).chunks(piece) {
            demuxer.push(Stamp::from_millis(number as u64 * 40), piece, &mut out);
        }
        if !frames(&out, VIDEO).iter().any(|frame| frame.data == sent[number]) {
            outcome.late.push(number);
        }
    }
    demuxer.push(Stamp::from_millis(60_000), &[0, 0, 1, 0xB9], &mut out);
    let seen = frames(&out, VIDEO);
    outcome.broken = sent.iter().filter(|sent| !seen.iter().any(|frame| frame.data == **sent)).count();
    outcome.discarded = discards(&out);
    if outcome.broken == 0 {
        assert!(seen.iter().map(|frame| &frame.data).eq(&sent), "order");
    }
    outcome
}

/// What it is called, how it is sent, the slices of each picture, which pictures are late (empty: not asked), and how many are broken.
type Row = (&'static str, Packing, Lengths, Vec<Vec<usize>>, Vec<usize>, usize);

#[test]
fn without_marks_the_last_packet_is_known_by_its_size() {
    // Thirty pictures: keyframes of 3,000 bytes, others of 400 to 900, of the same number of slices each.
    let sized = |key: usize, slices: usize| -> Vec<Vec<usize>> {
        let size = |number: usize| if number.is_multiple_of(10) { key } else { 400 + number * 37 % 500 };
        (0..30).map(|number| vec![size(number) / slices; slices]).collect()
    };
    let (plain, three) = (sized(3_000, 1), sized(3_000, 3));
    let all: Vec<usize> = (0..30).collect();
    let with = |at: usize, sizes: Vec<usize>| {
        let mut pictures = plain.clone();
        pictures[at] = sizes;
        pictures
    };
    let mut differing = three.clone();
    (0..30).step_by(10).for_each(|at| differing[at] = vec![700; 4]);
    let right = Lengths::Right;
    let rows: [Row; 18] = [
        ("one packet a picture: the first", Packing::Whole, right, plain.clone(), vec![0], 0),
        ("and the largest so far", Packing::Whole, right, with(7, vec![4_000]), vec![0, 7], 0),
        ("one packet of three slices", Packing::Whole, right, three.clone(), vec![0], 0),
        ("packets filled up, the last one too", Packing::Filled(700, 0), right, sized(3_300, 1), vec![0, 8], 0),
        ("the first smaller, by headers", Packing::Filled(700, 60), right, sized(3_300, 1), vec![0], 0),
        ("the last is as full as those before", Packing::Filled(700, 0), right, with(5, vec![1_396]), vec![0, 5, 8], 0),
        ("a last packet larger than all before", Packing::Filled(700, 0), right, with(5, vec![1_250]), vec![0, 8], 0),
        ("the first that goes on", Packing::Filled(5_000, 0), right, with(20, vec![12_000]), vec![0], 0),
        ("packets of the largest size", Packing::Filled(65_000, 0), right, with(10, vec![150_000]), vec![0], 0),
        ("packets of many sizes", Packing::Uneven(&[300, 900, 700]), right, plain.clone(), all.clone(), 0),
        ("three slices, filled up", Packing::Filled(300, 0), right, three.clone(), Vec::new(), 0),
        ("a packet for each of three slices", Packing::Apart, right, three.clone(), (0..EVEN_PICTURES as usize).collect(), 0),
        ("for slices whose number differs", Packing::Apart, right, differing, all.clone(), 0),
        ("one slice, later several", Packing::Apart, right, with(15, vec![500; 3]), Vec::new(), 1),
        ("lengths of zero", Packing::Whole, Lengths::Zero, plain.clone(), all.clone(), 0),
        ("lengths too short", Packing::Whole, Lengths::Off(-20), plain.clone(), all.clone(), 0),
        ("lengths too long", Packing::Whole, Lengths::Off(3_000), plain.clone(), all.clone(), 0),
        ("no lengths, filled up", Packing::Filled(700, 0), Lengths::Zero, plain.clone(), all, 0),
    ];
    for (name, packing, lengths, pictures, late, broken) in rows {
        for piece in [1_400, 183, usize::MAX] {
            let outcome = run(packing, lengths, &pictures, piece);
            assert_eq!((outcome.broken, outcome.discarded), (broken, broken), "{name}, in pieces of {piece}: {outcome:?}");
            if !late.is_empty() {
                assert_eq!(outcome.late, late, "{name}, in pieces of {piece}");
            }
        }
    }
}

/// Which of two slices is torn off is known when the second comes; from then on the next picture tells.
#[test]
fn after_a_mistake_the_next_picture_is_waited_for() {
    let pictures: Vec<Vec<usize>> = (0..30).map(|number| if number < 15 { vec![900] } else { vec![400, 300] }).collect();
    let outcome = run(Packing::Apart, Lengths::Right, &pictures, 1_400);
    let late: Vec<usize> = std::iter::once(0).chain(15..30).collect();
    assert_eq!(outcome, Outcome { late, broken: 1, discarded: 1 });
}

/// Senders of all kinds, by chance: at most one picture is broken, and it is counted; of those who fill packets up, none.
#[test]
fn no_sender_costs_more_than_one_picture() {
    for seed in 0..1_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let full = random.usize(100..2_000);
        let packing = match random.u8(..4) {
            0 => Packing::Whole,
            1 => Packing::Filled(full, random.usize(..60)),
            2 => Packing::Uneven([&[500, 1_100][..], &[90, 300, 2_000], &[800, 790, 810], &[1_500, 100]][random.usize(..4)]),
            _ => Packing::Apart,
        };
        let slices_max = random.usize(1..5);
        let is_steady = random.bool();
        let pictures: Vec<Vec<usize>> = (0..40)
            .map(|number: usize| {
                let count = if is_steady { slices_max } else { random.usize(1..=slices_max) };
                let bytes_max = if number.is_multiple_of(10) { 6_000 } else { 1_500 };
                (0..count).map(|_| random.usize(10..bytes_max)).collect()
            })
            .collect();
        let outcome = run(packing, Lengths::Right, &pictures, random.usize(1..3_000));
        let who = format!("seed {seed}, {packing:?}: {outcome:?}");
        assert!(outcome.broken <= 1 && outcome.discarded == outcome.broken, "{who}");
        let is_sure = matches!(packing, Packing::Whole | Packing::Filled(..)) || is_steady;
        assert!(!is_sure || matches!(packing, Packing::Uneven(_)) || outcome.broken == 0, "{who}");
        if matches!(packing, Packing::Whole) {
            // The first, and each that is larger than all before: few of forty.
            assert!(outcome.late.len() <= 12, "{who}");
        }
    }
}
