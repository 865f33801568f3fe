//! An ordered set that can tell how many of its keys lie before another, and what they weigh.
//!
//! A B-tree whose inner nodes count what lies below each child: a rank costs as much as a look-up.
//! The set of the standard library has no ranks. It is made for lines: keys that come in order fill
//! its leaves to the brim, and taking the first key again and again moves nothing.

use std::collections::VecDeque;

/// Keys in a leaf: two kilobytes of a ready job's.
const LEAF_MAX: usize = 128;
/// Children of an inner node.
const CHILDREN_MAX: usize = 32;

/// What lies in a [`Ranked`].
pub(super) trait Key: Copy + Ord {
    /// What is added up beside the count.
    fn weight(self) -> u64;
}

/// How many keys, and what they weigh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) count: u64,
    pub(super) weight: u64,
}

impl Sum {
    fn of(key: impl Key) -> Self {
        Self {
            count: 1,
            weight: key.weight(),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            weight: self.weight + other.weight,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            count: self.count - other.count,
            weight: self.weight - other.weight,
        }
    }
}

#[derive(Debug)]
pub(super) struct Ranked<K> {
    root: Node<K>,
    count: u64,
}

#[derive(Debug)]
enum Node<K> {
    Leaf(VecDeque<K>),
    Inner(Vec<Child<K>>),
}

#[derive(Debug)]
struct Child<K> {
    first: K,
    sum: Sum,
    node: Node<K>,
}

impl<K: Key> Ranked<K> {
    pub(super) const fn new() -> Self {
        Self {
            root: Node::Leaf(VecDeque::new()),
            count: 0,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn first(&self) -> Option<K> {
        match &self.root {
            Node::Leaf(keys) => keys.front().copied(),
            Node::Inner(children) => children.first().map(|child| child.first),
        }
    }

    /// Adds a key that is not there.
    pub(super) fn insert(&mut self, key: K) {
        self.count += 1;
        let Some(split) = self.root.insert(key) else {
            return;
        };
        let root = std::mem::replace(&mut self.root, Node::Inner(Vec::new()));
        self.root = Node::Inner(vec![Child::of(root), split]);
    }

    /// Takes a key away, and tells whether it was there.
    pub(super) fn remove(&mut self, key: K) -> bool {
        if !self.root.remove(key) {
            return false;
        }
        self.count -= 1;
        while let Node::Inner(children) = &mut self.root
            && children.len() <= 1
        {
            let only = children.pop();
            self.root = only.map_or(Node::Leaf(VecDeque::new()), |child| child.node);
        }
        true
    }

    /// Returns what lies before `key`, which need not be there.
    pub(super) fn before(&self, key: K) -> Sum {
        let mut sum = Sum::default();
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(keys) => {
                    let before = keys.partition_point(|other| *other < key);
                    let keys = keys.range(..before);
                    return keys.fold(sum, |sum, key| sum.plus(Sum::of(*key)));
                }
                Node::Inner(children) => {
                    let at = place_of(children, key);
                    let before = children[..at].iter();
                    sum = before.fold(sum, |sum, child| sum.plus(child.sum));
                    node = &children[at].node;
                }
            }
        }
    }

    /// Shows the keys from `from` on, in order, until `look` says that it has seen enough.
    pub(super) fn walk(&self, from: K, mut look: impl FnMut(K) -> bool) {
        self.root.walk(from, &mut look);
    }
}

/// Returns which child a key belongs to.
fn place_of<K: Key>(children: &[Child<K>], key: K) -> usize {
    let after = children.partition_point(|child| child.first <= key);
    after.saturating_sub(1)
}

impl<K: Key> Child<K> {
    /// Returns a node, which is not empty, as a child.
    fn of(node: Node<K>) -> Self {
        let (first, sum) = match &node {
            Node::Leaf(keys) => {
                let sum = keys.iter().map(|key| Sum::of(*key));
                (keys[0], sum.fold(Sum::default(), Sum::plus))
            }
            Node::Inner(children) => {
                let sum = children.iter().map(|child| child.sum);
                (children[0].first, sum.fold(Sum::default(), Sum::plus))
            }
        };
        Self { first, sum, node }
    }
}

impl<K: Key> Node<K> {
    /// Adds a key, and returns what was split off behind.
    fn insert(&mut self, key: K) -> Option<Child<K>> {
        match self {
            Self::Leaf(keys) => {
                let at = keys.partition_point(|other| *other < key);
                keys.insert(at, key);
                if keys.len() <= LEAF_MAX {
                    return None;
                }
                // Where keys come in order, what is behind is filled by those that follow.
                let is_last = at + 1 == keys.len();
                let behind = keys.split_off(if is_last { at } else { LEAF_MAX / 2 });
                Some(Child::of(Self::Leaf(behind)))
            }
            Self::Inner(children) => {
                let at = place_of(children, key);
                let child = &mut children[at];
                child.first = child.first.min(key);
                child.sum = child.sum.plus(Sum::of(key));
                let split = child.node.insert(key)?;
                child.sum = child.sum.minus(split.sum);
                children.insert(at + 1, split);
                if children.len() <= CHILDREN_MAX {
                    return None;
                }
                let is_last = at + 2 == children.len();
                let from = if is_last { at + 1 } else { CHILDREN_MAX / 2 };
                let behind = children.split_off(from);
                Some(Child::of(Self::Inner(behind)))
            }
        }
    }

    fn remove(&mut self, key: K) -> bool {
        match self {
            Self::Leaf(keys) => {
                let at = keys.partition_point(|other| *other < key);
                if keys.get(at) != Some(&key) {
                    return false;
                }
                keys.remove(at);
                true
            }
            Self::Inner(children) => {
                let at = place_of(children, key);
                let child = &mut children[at];
                if !child.node.remove(key) {
                    return false;
                }
                child.sum = child.sum.minus(Sum::of(key));
                match child.node.first() {
                    None => drop(children.remove(at)),
                    Some(first) => {
                        child.first = first;
                        join_sparse(children, at);
                    }
                }
                true
            }
        }
    }

    fn first(&self) -> Option<K> {
        match self {
            Self::Leaf(keys) => keys.front().copied(),
            Self::Inner(children) => children.first().map(|child| child.first),
        }
    }

    /// How many keys or children it has, and how many it may have.
    fn width(&self) -> (usize, usize) {
        match self {
            Self::Leaf(keys) => (keys.len(), LEAF_MAX),
            Self::Inner(children) => (children.len(), CHILDREN_MAX),
        }
    }

    fn append(&mut self, behind: Self) {
        match (self, behind) {
            (Self::Leaf(keys), Self::Leaf(mut behind)) => keys.append(&mut behind),
            (Self::Inner(children), Self::Inner(mut behind)) => children.append(&mut behind),
            // All leaves are equally deep.
            (Self::Leaf(_), Self::Inner(_)) | (Self::Inner(_), Self::Leaf(_)) => {}
        }
    }

    fn walk(&self, from: K, look: &mut impl FnMut(K) -> bool) -> bool {
        match self {
            Self::Leaf(keys) => {
                let start = keys.partition_point(|key| *key < from);
                keys.range(start..).all(|key| look(*key))
            }
            Self::Inner(children) => {
                let start = place_of(children, from);
                let mut rest = children[start..].iter();
                rest.all(|child| child.node.walk(from, look))
            }
        }
    }
}

/// Joins a child that has become sparse with the next one, where that leaves room for more.
fn join_sparse<K: Key>(children: &mut Vec<Child<K>>, at: usize) {
    let (width, most) = children[at].node.width();
    // The first and the last are where flows shrink and grow: those are left alone.
    if at == 0 || at + 1 >= children.len() || width > most / 4 {
        return;
    }
    if width + children[at + 1].node.width().0 <= most * 3 / 4 {
        let behind = children.remove(at + 1);
        children[at].sum = children[at].sum.plus(behind.sum);
        children[at].node.append(behind.node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn check(
        ranked: &Ranked<(u64, usize)>,
        model: &BTreeSet<(u64, usize)>,
        probes: &[(u64, usize)],
    ) {
        assert_eq!(ranked.count, model.len() as u64);
        assert_eq!(ranked.first(), model.first().copied());
        for probe in probes {
            let before = model.range(..*probe);
            let expected = before.fold(Sum::default(), |sum, key| sum.plus(Sum::of(*key)));
            assert_eq!(ranked.before(*probe), expected, "before {probe:?}");
            let mut walked = Vec::new();
            ranked.walk(*probe, |key| {
                walked.push(key);
                walked.len() < 300
            });
            let expected: Vec<_> = model.range(*probe..).take(300).copied().collect();
            assert_eq!(walked, expected, "from {probe:?}");
        }
    }

    #[test]
    fn it_agrees_with_a_plain_set_whatever_comes_and_goes() {
        let mut random = fastrand::Rng::with_seed(7);
        for (keys, removes) in [(50, 3), (5_000, 5), (1_000_000, 4), (1_000_000, 9)] {
            let (mut ranked, mut model) = (Ranked::new(), BTreeSet::new());
            for step in 0..20_000 {
                let key = (random.u64(0..keys), random.usize(0..2));
                if random.u8(0..10) < removes {
                    let key = model.range(key..).next().copied().unwrap_or(key);
                    assert_eq!(ranked.remove(key), model.remove(&key));
                } else if model.insert(key) {
                    ranked.insert(key);
                }
                if step % 997 == 0 {
                    let probes: Vec<_> = (0..9).map(|_| (random.u64(0..keys), 1)).collect();
                    check(&ranked, &model, &probes);
                }
            }
            while let Some(key) = model.pop_last() {
                assert!(ranked.remove(key));
                assert!(!ranked.remove(key));
            }
            check(&ranked, &model, &[(3, 0)]);
        }
    }

    #[test]
    fn a_line_that_grows_behind_and_shrinks_in_front_stays_compact() {
        let mut ranked = Ranked::new();
        for number in 0..100_000 {
            ranked.insert((number, 0));
        }
        let Node::Inner(children) = &ranked.root else {
            panic!("a hundred thousand keys in one leaf");
        };
        assert!(children.len() <= 100_000 / (LEAF_MAX * CHILDREN_MAX) + 1);
        for number in 0..90_000 {
            assert_eq!(ranked.first(), Some((number, 0)));
            assert!(ranked.remove((number, 0)));
            ranked.insert((number + 100_000, 0));
        }
        assert_eq!(ranked.before((u64::MAX, 0)).count, 100_000);
        assert_eq!(ranked.before((150_000, 0)).count, 60_000);
    }
}
