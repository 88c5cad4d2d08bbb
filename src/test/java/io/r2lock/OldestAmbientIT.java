package io.r2lock;

class OldestAmbientIT extends AmbientContract {

    OldestAmbientIT() {
        super(TestServer.oldest());
    }
}
