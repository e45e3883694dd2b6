//! A token of a queue is handed out at most once; one that was acknowledged is handed out or still there, unless a call
//! whose fate is unknown may have taken it; one that was refused is never seen; and a call that was told *nothing was
//! done* has taken and moved nothing.

use std::collections::BTreeSet;

use crate::history::History;
use crate::queues::{Fate, Left, Queue, Take};

/// Judges every queue.
pub fn check(history: &History) -> Vec<String> {
    let wrongs = |(name, queue): (&String, &Queue)| {
        judge(queue).into_iter().map(|wrong| format!("{name}: {wrong}")).collect::<Vec<_>>()
    };
    history.queues.iter().flat_map(wrongs).collect()
}

fn judge(queue: &Queue) -> Vec<String> {
    let Some(Left { pushed, moved }) = &queue.left else {
        return vec!["nobody has looked what is left".into()];
    };
    let mut wrongs = Vec::new();
    let mut wrong = |is_wrong: bool, token: u64, what: &str| {
        if is_wrong {
            wrongs.push(format!("{token} {what}"));
        }
    };
    let (mut popped, mut fetched) = (BTreeSet::new(), BTreeSet::new());
    for (take, fate) in &queue.takes {
        if let Fate::Answered(token) = *fate {
            let twice = popped.contains(&token) || fetched.contains(&token);
            wrong(twice, token, "was handed out twice");
            match take {
                Take::Pop => popped.insert(token),
                Take::Move => fetched.insert(token),
            };
        }
    }
    let mut there = BTreeSet::new();
    for token in pushed.iter().chain(moved) {
        wrong(!there.insert(*token), *token, "is there twice");
        wrong(popped.contains(token), *token, "was popped and is there");
    }
    for token in &fetched {
        wrong(!moved.contains(token), *token, "was moved and is not where it was moved to");
    }
    for token in there.iter().chain(&popped).chain(&fetched) {
        let certainly_not = matches!(queue.pushes.get(token), None | Some(Fate::Refused));
        wrong(certainly_not, *token, "was certainly not pushed, and was seen");
    }
    let taken_for_nobody = |push: &(&u64, &Fate<()>)| {
        let (token, fate) = *push;
        *fate == Fate::Answered(()) && !there.contains(token) && !popped.contains(token)
    };
    let lost: Vec<u64> = queue.pushes.iter().filter(taken_for_nobody).map(|(token, _)| *token).collect();
    wrongs.extend(more_than_unknown(queue, Take::Pop, lost, "acknowledged and lost"));
    let strays: Vec<u64> = moved.iter().copied().filter(|token| !fetched.contains(token)).collect();
    wrongs.extend(more_than_unknown(queue, Take::Move, strays, "moved for nobody"));
    wrongs
}

/// What is wrong if more `tokens` were taken without an answer than calls of that kind have ended in doubt.
fn more_than_unknown(queue: &Queue, kind: Take, tokens: Vec<u64>, what: &str) -> Option<String> {
    let unknown = |(take, fate): &&(Take, Fate<u64>)| *take == kind && *fate == Fate::Unknown;
    let unknown = queue.takes.iter().filter(unknown).count();
    let wrong = || format!("{tokens:?} were {what}, and only {unknown} calls may have taken one unheard");
    (tokens.len() > unknown).then(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens 1 and 2 were acknowledged, 3 refused, of 4 nothing is known.
    fn wrongs(takes: &[(Take, Fate<u64>)], pushed: &[u64], moved: &[u64]) -> usize {
        let (done, refused, unknown) = (Fate::Answered(()), Fate::Refused, Fate::Unknown);
        let queue = Queue {
            pushes: [(1, done), (2, done), (3, refused), (4, unknown)].into(),
            takes: takes.to_vec(),
            left: Some(Left { pushed: pushed.to_vec(), moved: moved.to_vec() }),
        };
        judge(&queue).len()
    }

    #[test]
    fn what_is_explained_is_right() {
        let (pop, fetch) = (|fate| (Take::Pop, fate), |fate| (Take::Move, fate));
        assert_eq!(wrongs(&[], &[1, 2], &[]), 0);
        assert_eq!(wrongs(&[], &[4, 1, 2], &[]), 0, "an unknown push may have been done");
        assert_eq!(wrongs(&[pop(Fate::Answered(1)), fetch(Fate::Answered(2))], &[], &[2]), 0);
        assert_eq!(wrongs(&[pop(Fate::Unknown), pop(Fate::Refused)], &[2], &[]), 0, "an unknown pop");
        assert_eq!(wrongs(&[fetch(Fate::Unknown)], &[2], &[1]), 0, "an unknown move");
    }

    #[test]
    fn what_is_not_explained_is_wrong() {
        let (pop, fetch) = (|fate| (Take::Pop, fate), |fate| (Take::Move, fate));
        let one = pop(Fate::Answered(1));
        assert_eq!(wrongs(&[one, one], &[2], &[]), 1, "handed out twice");
        assert_eq!(wrongs(&[one], &[1, 2], &[]), 1, "popped, and there");
        assert_eq!(wrongs(&[], &[1, 1, 2], &[]), 1, "there twice");
        assert_eq!(wrongs(&[pop(Fate::Refused), fetch(Fate::Unknown)], &[2], &[]), 1, "lost");
        assert_eq!(wrongs(&[pop(Fate::Unknown)], &[], &[]), 1, "one may have been taken, not two");
        assert_eq!(wrongs(&[fetch(Fate::Refused), pop(Fate::Unknown)], &[2], &[1]), 1, "moved for nobody");
        assert_eq!(wrongs(&[fetch(Fate::Answered(2)), pop(Fate::Unknown)], &[1], &[]), 1, "moved to nowhere");
        assert_eq!(wrongs(&[], &[1, 2, 3], &[]), 1, "refused, and there");
        assert_eq!(wrongs(&[pop(Fate::Answered(9))], &[1, 2], &[]), 1, "out of thin air");
        assert_eq!(judge(&Queue::default()).len(), 1, "nobody has looked");
    }
}
