"""Before training: can every network be built, how long will it take, in how much memory?"""
