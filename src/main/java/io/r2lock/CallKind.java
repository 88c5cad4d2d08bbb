package io.r2lock;

import java.util.List;

/**
 * What a session call asks for. Calls of one kind share a statement; the statements of a batch stand in the order of the
 * constants: unlocks before locks, which may need what those free.
 */
enum CallKind {
    UNLOCK,
    UNLOCK_SHARED,
    UNLOCK_PAIR,
    UNLOCK_PAIR_SHARED,
    LOCK,
    LOCK_SHARED,
    LOCK_PAIR,
    LOCK_PAIR_SHARED;

    static final List<CallKind> IN_ORDER = List.of(values());

    static CallKind of(boolean unlock, LockKey key, LockMode mode) {
        boolean shared = mode == LockMode.SHARED;
        if (unlock) {
            return key.isPair() ? (shared ? UNLOCK_PAIR_SHARED : UNLOCK_PAIR) : (shared ? UNLOCK_SHARED : UNLOCK);
        }
        return key.isPair() ? (shared ? LOCK_PAIR_SHARED : LOCK_PAIR) : (shared ? LOCK_SHARED : LOCK);
    }

    boolean isUnlock() {
        return compareTo(LOCK) < 0;
    }

    boolean isPair() {
        return switch (this) {
            case UNLOCK_PAIR, UNLOCK_PAIR_SHARED, LOCK_PAIR, LOCK_PAIR_SHARED -> true;
            case UNLOCK, UNLOCK_SHARED, LOCK, LOCK_SHARED -> false;
        };
    }
}
