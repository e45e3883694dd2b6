//! Snapshots over a disk that crashes, fails and flips bits.

use super::*;
use crate::env::fake_disk::{FakeDisk, FakeDiskOptions};

const DIR: &str = "/node/snapshots";

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(test)
}

fn open(disk: &FakeDisk) -> Result<SnapshotStore> {
    SnapshotStore::open(disk.mount(), Path::new(DIR), 7, Pace::default())
}

fn chunks(index: u64, len: usize) -> Vec<Bytes> {
    let data: Vec<_> = (0..len).map(|i| (i as u64 * 31 + index) as u8).collect();
    data.chunks(300_000).map(Bytes::copy_from_slice).collect()
}

async fn write(store: &SnapshotStore, index: u64, len: usize) -> io::Result<SnapshotFile> {
    let mut writer = store.write(index, Bytes::from(format!("meta {index}"))).await?;
    for chunk in chunks(index, len) {
        writer.push(chunk).await?;
    }
    writer.finish().await
}

async fn read(snapshot: &SnapshotFile) -> io::Result<Vec<Bytes>> {
    assert_eq!(snapshot.meta(), Bytes::from(format!("meta {}", snapshot.index())));
    let (mut reader, mut all) = (snapshot.reader(), Vec::new());
    while let Some(chunk) = reader.next().await? {
        all.push(chunk);
    }
    Ok(all)
}

async fn copy(from: &SnapshotFile, to: &SnapshotStore) -> io::Result<SnapshotFile> {
    let mut receiver = to.receive().await?;
    let mut offset = 0;
    loop {
        let bytes = from.read_raw(offset, 70_000).await?;
        if bytes.is_empty() {
            break to.adopt(receiver.finish().await?).await;
        }
        offset += bytes.len() as u64;
        receiver.push(bytes).await?;
    }
}

#[test]
fn a_snapshot_goes_round() {
    run(async {
        let (here, there) =
            (FakeDisk::new(1, FakeDiskOptions::default()), FakeDisk::new(2, Default::default()));
        let (store, peer) = (open(&here).expect("a store"), open(&there).expect("a store"));
        for len in [0, 1, WRITE_BYTES, 2 * WRITE_BYTES + 77] {
            let index = len as u64 + 1;
            let written = write(&store, index, len).await.expect("written");
            copy(&written, &peer).await.expect("copied");
            for store in [&store, &peer, &open(&here).expect("a store")] {
                let current = store.current().expect("a snapshot");
                assert_eq!(current.index(), index);
                assert_eq!(read(&current).await.expect("whole"), chunks(index, len));
            }
        }
        assert_eq!(here.files().len(), 1, "older ones are gone");
    });
}

#[test]
fn an_older_snapshot_never_replaces_a_newer_one() {
    run(async {
        let disk = FakeDisk::new(1, FakeDiskOptions::default());
        let store = open(&disk).expect("a store");
        let mut slow = store.write(5, Bytes::from("meta 5")).await.expect("begun");
        write(&store, 9, 100).await.expect("written");
        slow.push(Bytes::from("late")).await.expect("written");
        assert_eq!(slow.finish().await.expect("superseded").index(), 9);
        assert_eq!(open(&disk).expect("a store").current().expect("a snapshot").index(), 9);
        assert_eq!(disk.files().len(), 1);
    });
}

#[test]
fn a_replaced_snapshot_stays_readable() {
    run(async {
        let disk = FakeDisk::new(1, FakeDiskOptions::default());
        let store = open(&disk).expect("a store");
        let first = write(&store, 1, 700_000).await.expect("written");
        write(&store, 2, 10).await.expect("written");
        assert_eq!(read(&first).await.expect("whole"), chunks(1, 700_000));
        let other = SnapshotStore::open(disk.mount(), Path::new(DIR), 8, Pace::default())
            .expect("another group's store");
        assert!(copy(&first, &other).await.is_err_and(|e| e.to_string().contains("another group's")));
    });
}

#[test]
fn a_power_cut_at_any_operation_leaves_a_whole_snapshot() {
    for at in 0.. {
        let mut finished_all = false;
        for seed in 0..20 {
            let disk = FakeDisk::new(at << 8 | seed, FakeDiskOptions::default());
            run(async {
                let mut durable = 0;
                if let Ok(store) = open(&disk) {
                    disk.fail_power_after(at);
                    for index in 1..=3 {
                        if write(&store, index, 5000).await.is_ok() {
                            durable = index;
                        }
                    }
                }
                finished_all = durable == 3;
                disk.crash();
                let store = open(&disk).expect("a store");
                let mut found = 0;
                if let Some(current) = store.current() {
                    found = current.index();
                    assert_eq!(read(&current).await.expect("whole"), chunks(found, 5000));
                }
                assert!(found >= durable, "operation {at}: {found} found, {durable} was durable");
                assert!(disk.files().len() <= 1, "{:?}", disk.files());
            });
        }
        if finished_all {
            assert!(at > 10);
            break;
        }
    }
}

#[test]
fn a_newer_build_s_file_is_no_damage() {
    let disk = FakeDisk::new(1, FakeDiskOptions::default());
    run(async { write(&open(&disk).expect("a store"), 9, 100).await.expect("written") });
    let path = disk.files().remove(0);
    let mut head = disk.content(&path).expect("there");
    let meta_len = u32_at(&head, 24) as usize;
    head.truncate(HEADER + meta_len);
    head[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let crc = header_crc(&head[..HEADER], &head[HEADER..]);
    head[28..32].copy_from_slice(&crc.to_le_bytes());
    disk.mount().open(&path).and_then(|file| file.write_at(&head, 0)).expect("a good disk");
    let error = open(&disk).map(drop).expect_err("unknown");
    assert!(matches!(error, SnapshotStoreError::Newer { version, .. } if version == VERSION + 1), "{error}");
}

#[test]
fn a_flipped_bit_is_noticed_and_never_sent_on() {
    let disk = FakeDisk::new(1, FakeDiskOptions::default());
    run(async { write(&open(&disk).expect("a store"), 9, 3000).await.expect("written") });
    let path = disk.files().remove(0);
    let len = disk.content(&path).expect("there").len() as u64;
    for offset in 0..len {
        let damaged = disk.fork(offset);
        damaged.flip(&path, offset, 1 << (offset % 8));
        let error = open(&damaged).map(drop).expect_err("a flipped bit");
        let told = matches!(&error, SnapshotStoreError::Damaged { file, .. } if *file == path);
        assert!(told, "offset {offset}: {error}");
        // The bit may also flip while the node runs, or on the way.
        run(async {
            let running = disk.fork(offset);
            let current = open(&running).expect("a store").current().expect("a snapshot");
            running.flip(&path, offset, 1 << (offset % 8));
            let peer = open(&FakeDisk::new(3, FakeDiskOptions::default())).expect("a store");
            assert!(copy(&current, &peer).await.is_err(), "offset {offset} was adopted by a peer");
            assert!(peer.current().is_none());
        });
    }
}

#[test]
fn a_full_or_failing_disk_keeps_the_old_snapshot() {
    run(async {
        let disk = FakeDisk::new(1, FakeDiskOptions::default());
        let store = open(&disk).expect("a store");
        write(&store, 1, 1000).await.expect("written");
        disk.set_options(FakeDiskOptions { capacity: Some(5000), ..FakeDiskOptions::default() });
        let full = write(&store, 2, 9000).await.map(drop).expect_err("no room");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        disk.set_options(FakeDiskOptions::default());
        for at in 0..5 {
            disk.fail_once_after(at);
            assert!(write(&store, 3, 10).await.is_err(), "operation {at} failed");
            assert_eq!(store.current().expect("a snapshot").index(), 1);
            read(&store.current().expect("a snapshot")).await.expect("whole");
        }
    });
}

#[test]
fn what_a_new_process_finds_survives_a_power_cut() {
    for at in 0..30 {
        for seed in 0..20 {
            let disk = FakeDisk::new(at << 8 | seed, FakeDiskOptions::default());
            run(async {
                let store = open(&disk).expect("a store");
                disk.fail_once_after(at);
                for index in 1..=3 {
                    // One of them fails; the process then dies.
                    drop(write(&store, index, 5000).await);
                }
                disk.kill();
                let found = open(&disk).expect("a store").current().map_or(0, |current| current.index());
                disk.crash();
                let current = open(&disk).expect("a store").current();
                assert_eq!(current.map_or(0, |c| c.index()), found, "operation {at}, seed {seed}");
            });
        }
    }
}
