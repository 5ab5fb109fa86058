//! The chain's file: what was accepted is there after a restart, what is damaged is not touched.

use std::fs;
use std::path::{Path, PathBuf};

use bitcoin::consensus::encode;
use bitcoin::constants::genesis_block;
use bitcoin::{Block, BlockHash, Network};
use blvm_stratum_v2::mining::TemplateSerial;
use blvm_stratum_v2::template::regtest::{FileError, Flaw, Options, RegtestChain, RejectReason};
use tempfile::TempDir;

use crate::miner::{NOW, mine};

fn open(path: &Path) -> Result<RegtestChain, FileError> {
    let options = Options { file: Some(path.to_owned()), ..Options::default() };
    RegtestChain::open(options, TemplateSerial(1), NOW)
}

/// A file with four blocks after genesis.
fn four() -> (TempDir, PathBuf, BlockHash) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blocks");
    let mut source = open(&path).unwrap();
    for _ in 0..4 {
        mine(&mut source);
    }
    (directory, path, source.chain().tip())
}

fn record(block: &Block) -> Vec<u8> {
    let block = encode::serialize(block);
    [&[0xfa, 0xbf, 0xb5, 0xda][..], &(block.len() as u32).to_le_bytes(), &block].concat()
}

/// Where each of the file's records starts.
fn starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![];
    let mut at = 0;
    while at < bytes.len() {
        starts.push(at);
        at += 8 + u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
    }
    starts
}

/// Opening `bytes` fails for this reason, names the file and leaves it as it is.
fn refuse(path: &Path, bytes: &[u8], at: usize, expected: Flaw) {
    fs::write(path, bytes).unwrap();
    let error = open(path).expect_err("the file is damaged");
    let message = error.to_string();
    assert!(
        message.contains(path.to_str().unwrap()) && message.contains(&format!("byte {at}:")),
        "{message}"
    );
    let FileError::Invalid { offset, flaw, .. } = error else { panic!("{error}") };
    assert_eq!((offset, flaw), (at as u64, expected));
    assert_eq!(fs::read(path).unwrap(), bytes);
}

#[test]
fn the_format_is_that_of_block_files() {
    let (_directory, path, tip) = four();
    let source = open(&path).unwrap();
    assert_eq!((source.chain().height(), source.chain().tip()), (4, tip));
    let expected: Vec<u8> = source.chain().blocks().flat_map(record).collect();
    assert_eq!(fs::read(&path).unwrap(), expected);
    assert!(expected.starts_with(&record(&genesis_block(Network::Regtest))));
}

#[test]
fn mining_goes_on_where_it_stopped() {
    let (_directory, path, _) = four();
    for height in 5..15 {
        let mut source = open(&path).unwrap();
        assert_eq!(mine(&mut source).height, height);
    }
    let options = Options { file: Some(path.clone()), transactions: 10, ..Options::default() };
    let mut source = RegtestChain::open(options.clone(), TemplateSerial(1), NOW).unwrap();
    mine(&mut source);
    let height = source.chain().height();
    drop(source);
    let mut source = RegtestChain::open(options, TemplateSerial(1), NOW).unwrap();
    assert_eq!(source.chain().height(), height, "the coins are there again, none must be mined");
    mine(&mut source);
    assert_eq!(source.chain().blocks().next_back().unwrap().txdata.len(), 11);
}

#[test]
fn a_torn_tail_is_cut_off_wherever_it_is_torn() {
    let (_directory, path, tip) = four();
    let whole = fs::read(&path).unwrap();
    let last = *starts(&whole).last().unwrap();
    for len in last + 1..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        let mut source = open(&path).unwrap();
        assert_eq!(source.chain().height(), 3, "torn at {len}");
        assert_eq!(fs::read(&path).unwrap(), whole[..last]);
        if len % 40 == 0 {
            mine(&mut source);
            drop(source);
            assert_eq!(open(&path).unwrap().chain().height(), 4);
        }
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(open(&path).unwrap().chain().tip(), tip);
}

#[test]
fn space_that_was_made_but_not_filled_is_cut_off() {
    let (_directory, path, tip) = four();
    let whole = fs::read(&path).unwrap();
    for blank in [1, 3, 4, 7, 8, 9, 300] {
        fs::write(&path, [&whole[..], &vec![0; blank]].concat()).unwrap();
        assert_eq!(open(&path).unwrap().chain().tip(), tip);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    let mut almost = [&whole[..], &[0; 300]].concat();
    *almost.last_mut().unwrap() = 1;
    refuse(&path, &almost, whole.len(), Flaw::Magic);
}

#[test]
fn a_torn_genesis_is_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blocks");
    let genesis = record(&genesis_block(Network::Regtest));
    for len in 0..genesis.len() {
        fs::write(&path, &genesis[..len]).unwrap();
        assert_eq!(open(&path).unwrap().chain().height(), 0);
        assert_eq!(fs::read(&path).unwrap(), genesis);
    }
}

#[test]
fn foreign_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blocks");
    refuse(&path, b"x", 0, Flaw::Magic);
    refuse(&path, b"something else altogether", 0, Flaw::Magic);
    refuse(&path, &[0; 4096], 0, Flaw::Magic);
    refuse(&path, &record(&genesis_block(Network::Signet)), 0, Flaw::Genesis);
    let mut mainnet = record(&genesis_block(Network::Bitcoin));
    mainnet[..4].copy_from_slice(&[0xf9, 0xbe, 0xb4, 0xd9]);
    refuse(&path, &mainnet, 0, Flaw::Magic);
}

#[test]
fn damage_is_refused_and_named() {
    let (_directory, path, _) = four();
    let whole = fs::read(&path).unwrap();
    let starts = starts(&whole);
    let flip = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x80;
        bytes
    };
    for (nth, &start) in starts.iter().enumerate() {
        refuse(&path, &flip(start), start, Flaw::Magic);
        refuse(&path, &flip(start + 7), start, Flaw::Length);
        if nth > 0 {
            refuse(&path, &flip(start + 8 + 4), start, Flaw::Block(RejectReason::UnknownParent));
        }
    }
    // A length that reaches past the end is no torn tail as long as other records follow.
    refuse(&path, &flip(starts[2] + 5), starts[2], Flaw::Length);
    // One that is too short is no block.
    let mut short = whole.clone();
    short[starts[2] + 4] -= 1;
    refuse(&path, &short, starts[2], Flaw::Encoding);
    // A missing record.
    let missing = [&whole[..starts[2]], &whole[starts[3]..]].concat();
    refuse(&path, &missing, starts[2], Flaw::Block(RejectReason::UnknownParent));
    // One that comes twice.
    let twice = [&whole[..], &whole[starts[4]..]].concat();
    refuse(&path, &twice, whole.len(), Flaw::Block(RejectReason::Duplicate));
}

#[test]
fn one_process_has_it_at_a_time() {
    let (_directory, path, tip) = four();
    let source = open(&path).unwrap();
    assert!(matches!(open(&path), Err(FileError::Locked { path: named }) if named == path));
    drop(source);
    assert_eq!(open(&path).unwrap().chain().tip(), tip);
}

#[test]
fn an_invalidated_tip_leaves_the_file() {
    let (_directory, path, tip) = four();
    let whole = fs::read(&path).unwrap();
    let mut source = open(&path).unwrap();
    assert_eq!(source.invalidate_tip(NOW).unwrap(), Some(tip));
    assert_eq!(fs::read(&path).unwrap(), whole[..*starts(&whole).last().unwrap()]);
    for _ in 0..5 {
        source.invalidate_tip(NOW).unwrap();
    }
    mine(&mut source);
    drop(source);
    assert_eq!(open(&path).unwrap().chain().height(), 1);
}

#[test]
fn a_clock_set_back_does_not_lose_the_chain() {
    let (_directory, path, tip) = four();
    let options = Options { file: Some(path), ..Options::default() };
    let source = RegtestChain::open(options, TemplateSerial(1), 1_300_000_000).unwrap();
    assert_eq!(source.chain().tip(), tip);
}

#[test]
fn a_missing_directory_is_an_error_of_the_system() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing").join("blocks");
    assert!(matches!(open(&path), Err(FileError::Io { path: named, .. }) if named == path));
}
