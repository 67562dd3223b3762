"""What a timeline means: bubble, overlap, exposed communication, critical path, memory, money.

Everything is computed from the timeline, which nothing moves. Import from the modules; nothing
heavy is imported here.
"""
