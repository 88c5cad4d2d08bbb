package io.r2lock;

class OldestCleaningIT extends Cleaning {

    OldestCleaningIT() {
        super(TestServer.oldest());
    }
}
