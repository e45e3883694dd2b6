//! Snapshots over a disk that crashes, fails and flips bits.

use super::*;
use crate::env::fake_disk::{FakeDisk, FakeDiskOptions};

const DIR: &str = "/node/snapshots";

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(test)
}

fn open(disk: &FakeDisk) -> Result<SnapshotStore> {
    SnapshotStore::open(disk.mount(), Path::new(DIR))
}

fn data(index: u64, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u64 * 31 + index) as u8).collect()
}

async fn write(store: &SnapshotStore, index: u64, len: usize) -> Result<SnapshotInfo> {
    let mut writer = store.write(7, index, Bytes::from(format!("meta {index}"))).await?;
    for piece in data(index, len).chunks(300_000) {
        writer.append(piece).await?;
    }
    writer.finish().await
}

async fn read(store: &SnapshotStore) -> Result<Option<(u64, Vec<u8>)>> {
    let Some(mut reader) = store.read(7).await? else { return Ok(None) };
    assert_eq!(reader.meta(), &Bytes::from(format!("meta {}", reader.index())));
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(Some((reader.index(), all)))
}

async fn copy(from: &SnapshotStore, to: &SnapshotStore) -> Result<SnapshotInfo> {
    let mut sender = from.send(7).await?.expect("a snapshot");
    let mut receiver = to.receive(7).await?;
    while let Some(bytes) = sender.next(70_000).await? {
        receiver.append(bytes).await?;
    }
    receiver.finish().await
}

#[test]
fn a_snapshot_goes_round() {
    run(async {
        let (here, there) =
            (FakeDisk::new(1, FakeDiskOptions::default()), FakeDisk::new(2, Default::default()));
        let (store, peer) = (open(&here).expect("a store"), open(&there).expect("a store"));
        for len in [0, 1, MAX_FRAME_BYTES, 2 * MAX_FRAME_BYTES + 77] {
            let index = len as u64 + 1;
            write(&store, index, len).await.expect("written");
            copy(&store, &peer).await.expect("copied");
            for store in [&store, &peer] {
                assert_eq!(read(store).await.expect("whole"), Some((index, data(index, len))));
            }
        }
        assert_eq!(here.files().len(), 1, "older ones are gone");
        let superseded = write(&store, 1, 5).await.expect_err("an older one");
        assert!(matches!(superseded, SnapshotError::Superseded { group: 7, .. }));
        assert_eq!(here.files().len(), 1);
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
                let found = read(&store).await.expect("whole").map_or(0, |(index, found)| {
                    assert_eq!(found, data(index, 5000));
                    index
                });
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
fn a_flipped_bit_is_noticed_and_never_sent_on() {
    let disk = FakeDisk::new(1, FakeDiskOptions::default());
    run(async { write(&open(&disk).expect("a store"), 9, 3000).await.expect("written") });
    let path = disk.files().remove(0);
    let len = disk.content(&path).expect("there").len() as u64;
    for offset in 0..len {
        let damaged = disk.fork(offset);
        damaged.flip(&path, offset, 1 << (offset % 8));
        run(async {
            let error = match open(&damaged) {
                Err(e) => e,
                Ok(store) => {
                    let peer = open(&FakeDisk::new(3, FakeDiskOptions::default())).expect("a store");
                    assert!(copy(&store, &peer).await.is_err(), "offset {offset} was adopted by a peer");
                    assert!(peer.current(7).is_none());
                    read(&store).await.expect_err("a flipped bit")
                }
            };
            let told = matches!(&error, SnapshotError::Damaged { file, .. } | SnapshotError::Newer { file, .. } if *file == path);
            assert!(told, "offset {offset}: {error}");
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
        assert!(matches!(write(&store, 2, 9000).await, Err(SnapshotError::Io { .. })));
        disk.set_options(FakeDiskOptions::default());
        for at in 0..5 {
            disk.fail_once_after(at);
            assert!(write(&store, 3, 10).await.is_err(), "operation {at} failed");
            assert_eq!(read(&store).await.expect("whole").map(|(index, _)| index), Some(1));
        }
    });
}
