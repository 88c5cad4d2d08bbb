package io.r2lock;

/**
 * What one waiter at a {@link KeyGate} has, and hands over to the next one, or shares with it. The counts belong to the gate and
 * change only inside its own changes.
 */
abstract class Baton {

    /** How many have it now. */
    int sharers;

    /** How often in a row it was taken over, or joined, without the server. */
    int handOffs;

    /** Not known to be lost. */
    abstract boolean isGood();
}
