"""First word embeddings from the training posts: how words and tags go together in them.

The paper starts from word2vec, trained on other text. Without such a file the training posts still
say much: on a few thousand of them, embeddings that start at random are what T learns by heart
(docs/findings.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kdgan_core.data.words import FIRST_WORD

PRIOR = 5.0  # posts that a word is thought to have been in besides, tagged like all others
SPREAD = 1.0  # root mean square of the embeddings
FEWEST = 1e-3  # share of the posts below which a tag counts no more for being rarer


def association_vectors(
    tokens: NDArray[np.int32], tags: NDArray[np.bool_], words: int, width: int
) -> NDArray[np.float32]:
    """(V, E) left singular vectors, times their values, of how much likelier a word makes a tag.

    The matrix is (V, K): the smoothed share of a word's posts that have the tag, less the tag's
    share of all posts, over its square root. E is `width`, or K if there are fewer tags.

    Args:
        tokens: (n, L) word numbers of the training posts, 0 behind the last.
        tags: (n, K).
        words: V, padding and the unknown word included.
        width: wanted.
    """
    # Imported here: a trial on images starts a second sooner.
    from scipy.sparse import csr_array
    from sklearn.utils.extmath import randomized_svd

    rows, _ = np.nonzero(tokens)
    numbers = tokens[tokens != 0]
    present = csr_array((np.ones(len(rows), np.float32), (rows, numbers)), (len(tokens), words))
    present.data[:] = 1.0  # a word counts once a post
    share = tags.mean(axis=0, dtype=np.float64)
    together = present.T @ tags.astype(np.float32)
    posts = np.asarray(present.sum(axis=0), np.float64)[:, None]
    excess = (together + PRIOR * share) / (posts + PRIOR) - share
    excess /= np.sqrt(share + FEWEST)
    excess[:FIRST_WORD] = 0.0
    width = min(width, *excess.shape)
    left, values, _ = randomized_svd(excess, width, random_state=0)
    vectors = left * values
    size = np.sqrt(np.square(vectors[FIRST_WORD:]).mean()) if words > FIRST_WORD else 0.0
    scaled: NDArray[np.float32] = (vectors * (SPREAD / size if size else 0.0)).astype(np.float32)
    return scaled
