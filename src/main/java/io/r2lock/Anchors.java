package io.r2lock;

import java.util.LinkedHashSet;
import java.util.Set;

/** The holds that a nested attempt cannot outlive: its parent, and those of other roots that have its keys. */
final class Anchors {

    private final Hold parent;
    private final Set<Hold> all = new LinkedHashSet<>();

    Anchors(Hold parent) {
        this.parent = parent;
        all.add(parent);
    }

    /** A hold of the parent's own root is ended before the parent anyway. */
    void add(Hold hold) {
        if (hold.root() != parent.root()) {
            all.add(hold);
        }
    }

    /** {@code false} when one of them has ended. */
    boolean adopt(Acquire attempt) {
        for (Hold anchor : all) {
            if (!anchor.adopt(attempt)) {
                return false;
            }
        }
        return true;
    }

    void abandon(Acquire attempt) {
        all.forEach(anchor -> anchor.abandon(attempt));
    }

    /** Whether all of them are still held. */
    boolean areLive() {
        for (Hold anchor : all) {
            if (!anchor.isLive()) {
                return false;
            }
        }
        return true;
    }
}
